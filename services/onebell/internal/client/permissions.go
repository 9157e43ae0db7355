package client

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
)

// Permissions looks into the ledger.
type Permissions struct {
	List     listWaiting `cmd:"" help:"List who is waiting for a topic, oldest opt-in first."`
	Count    count       `cmd:"" help:"Count permissions by state, for one topic or for each."`
	Topics   listTopics  `cmd:"" help:"List the topics of a page with their counts."`
	Expiring expiring    `cmd:"" help:"Count the waiting permissions that lapse soon, by page and topic."`
}

type count struct {
	Where
	Page  string `required:"" help:"Id of the page."`
	Topic string `help:"Topic, like stock:RAD-SHIRT-M (default: each topic, a row each)."`
}

// Run asks and prints.
func (c count) Run(e *Env) error {
	conn, err := c.tokenService(e)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	answer, err := tokenv1.NewTokenServiceClient(conn).Count(e.Ctx,
		&tokenv1.CountRequest{PageId: c.Page, Topic: c.Topic}, grpc.WaitForReady(false))
	if err != nil {
		return refused(err)
	}
	return e.printCounts(answer.GetCounts(), c.JSON)
}

// printCounts prints topics with their counts.
func (e *Env) printCounts(counts []*tokenv1.TopicCount, asJSON bool) error {
	if asJSON {
		rows, err := array(counts, true)
		if err != nil {
			return err
		}
		return e.printJSON(rows)
	}
	var rows [][]string
	for _, t := range counts {
		row := []string{t.GetTopic()}
		for _, n := range []int64{t.GetWaiting(), t.GetGranted(), t.GetUnknown(), t.GetSpent(), t.GetExpired(), t.GetRevoked(), t.GetVoid()} {
			row = append(row, strconv.FormatInt(n, 10))
		}
		rows = append(rows, row)
	}
	return e.table([]string{"TOPIC", "WAITING", "GRANTED", "UNKNOWN", "SPENT", "EXPIRED", "REVOKED", "VOID"}, rows)
}

type listWaiting struct {
	Where
	Page  string `required:"" help:"Id of the page."`
	Topic string `required:"" help:"Topic, like stock:RAD-SHIRT-M."`
	Limit int    `default:"100" help:"At most so many."`
}

// Validate is called when the arguments are read.
func (c listWaiting) Validate() error {
	if c.Limit < 1 {
		return errors.New("--limit: expected at least 1")
	}
	return nil
}

// maxPage is the most that one message of the stream holds.
const maxPage = 1000

// Run asks and prints.
func (c listWaiting) Run(e *Env) error {
	conn, err := c.tokenService(e)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	waiting, more, err := c.read(e, tokenv1.NewTokenServiceClient(conn))
	if err != nil {
		return refused(err)
	}
	if more {
		fmt.Fprintf(e.Err, "onebell: only the first %d are listed: ask for more with --limit\n", c.Limit)
	}
	if c.JSON {
		rows, err := array(waiting, false)
		if err != nil {
			return err
		}
		return e.printJSON(rows)
	}
	var rows [][]string
	for _, p := range waiting {
		rows = append(rows, []string{p.GetPermissionId(), p.GetPsid(), at(p.GetOptedInAt()), at(p.GetExpiresAt()), wish(p.GetWish())})
	}
	return e.table([]string{"PERMISSION", "PERSON", "OPTED IN", "EXPIRES", "WISH"}, rows)
}

// read takes the stream until there are enough.
func (c listWaiting) read(e *Env, tokens tokenv1.TokenServiceClient) (waiting []*tokenv1.Permission, more bool, err error) {
	ctx, cancel := e.limited()
	defer cancel()
	pages, err := tokens.ListWaiting(ctx, &tokenv1.ListWaitingRequest{
		PageId: c.Page, Topic: c.Topic, PageSize: int32(min(c.Limit, maxPage)), //nolint:gosec // at most 1000
	}, grpc.WaitForReady(false))
	if err != nil {
		return nil, false, err
	}
	for {
		page, err := pages.Recv()
		if errors.Is(err, io.EOF) {
			return waiting, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		waiting = append(waiting, page.GetPermissions()...)
		if len(waiting) > c.Limit || len(waiting) == c.Limit && page.GetCursor() != "" {
			return waiting[:c.Limit], true, nil
		}
	}
}

func at(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().Format(time.RFC3339)
}

func wish(w *tokenv1.Wish) string {
	var text string
	if w.GetQty() > 0 {
		text = fmt.Sprintf("at least %d", w.GetQty())
	}
	if below := w.GetBelow(); below != nil {
		if text != "" {
			text += ", "
		}
		text += "at most " + below.GetAmount() + " " + below.GetCurrency()
	}
	return text
}
