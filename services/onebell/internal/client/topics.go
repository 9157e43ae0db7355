package client

import (
	"errors"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
)

type listTopics struct {
	Where
	Page   string `required:"" help:"Id of the page."`
	Prefix string `help:"Only topics that begin so, like stock: (default: all)."`
}

// Run asks and prints.
func (c listTopics) Run(e *Env) error {
	conn, err := c.tokenService(e)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := e.limited()
	defer cancel()
	request := &tokenv1.TopicsRequest{PageId: c.Page, Prefix: c.Prefix, PageSize: maxPage}
	var counts []*tokenv1.TopicCount
	for {
		answer, err := tokenv1.NewTokenServiceClient(conn).Topics(ctx, request, grpc.WaitForReady(false))
		if err != nil {
			return refused(err)
		}
		counts = append(counts, answer.GetTopics()...)
		if request.Cursor = answer.GetCursor(); request.GetCursor() == "" {
			return e.printCounts(counts, c.JSON)
		}
	}
}

type expiring struct {
	Where
	Page   string        `help:"Id of the page (default: every page)." placeholder:"ID"`
	Within time.Duration `default:"720h" help:"Those that lapse between now and then, like 720h for 30 days."`
}

// Validate is called when the arguments are read.
func (c expiring) Validate() error {
	if c.Within <= 0 {
		return errors.New("--within: expected more than 0, like 720h")
	}
	return nil
}

// Run asks and prints.
func (c expiring) Run(e *Env) error {
	conn, err := c.tokenService(e)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := e.limited()
	defer cancel()
	answer, err := tokenv1.NewTokenServiceClient(conn).Expiring(ctx,
		&tokenv1.ExpiringRequest{PageId: c.Page, Within: durationpb.New(c.Within)}, grpc.WaitForReady(false))
	if err != nil {
		return refused(err)
	}
	if c.JSON {
		rows, err := array(answer.GetCounts(), true)
		if err != nil {
			return err
		}
		return e.printJSON(rows)
	}
	var rows [][]string
	for _, n := range answer.GetCounts() {
		rows = append(rows, []string{n.GetPageId(), n.GetTopic(), strconv.FormatInt(n.GetPermissions(), 10), at(n.GetFirstAt())})
	}
	return e.table([]string{"PAGE", "TOPIC", "PERMISSIONS", "FIRST LAPSES"}, rows)
}
