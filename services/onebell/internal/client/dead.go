package client

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/onebell/internal/exit"
	"github.com/onebell/onebell/services/onebell/internal/ready"
)

// Dead looks at what was given up.
type Dead struct {
	List deadList `cmd:"" help:"List what was given up, oldest first, with the reason."`
}

type deadList struct {
	Where
	Stream string `help:"Only what came from this stream: webhooks, optins, events, people, inventory, waves, sends or outcomes." placeholder:"NAME"`
	Reason string `help:"Only what was given up for this reason." placeholder:"CODE"`
	Limit  int    `default:"1000" help:"At most so many."`
}

// letter is one message of DEAD. What does not apply is left out. A sequence is a 64-bit integer: a string in JSON.
type letter struct {
	Seq          string `json:"seq"`
	Subject      string `json:"subject"`
	Reason       string `json:"reason"`
	Detail       string `json:"detail,omitempty"`
	At           string `json:"at"`
	PageID       string `json:"page_id,omitempty"`
	SendID       string `json:"send_id,omitempty"`
	PermissionID string `json:"permission_id,omitempty"`
	AlertID      string `json:"alert_id,omitempty"`
	Attempts     int    `json:"attempts,omitempty"`
	Code         int    `json:"code,omitempty"`
	Subcode      int    `json:"subcode,omitempty"`
}

// deadStreams are the streams whose messages may be given up.
var deadStreams = []string{"webhooks", "optins", "events", "people", "inventory", "waves", "sends", "outcomes"}

// Validate is called when the arguments are read.
func (c deadList) Validate() error {
	if c.Limit < 1 {
		return errors.New("--limit: expected at least 1")
	}
	if c.Stream != "" && !slices.Contains(deadStreams, strings.ToLower(c.Stream)) {
		return fmt.Errorf("--stream=%q: expected one of %s", c.Stream, strings.Join(deadStreams, ", "))
	}
	return nil
}

// Run reads the stream and prints.
func (c deadList) Run(e *Env) error {
	url, err := c.address(e, "ONEBELL_NATS_URL", "nats://127.0.0.1:4222", func(f ready.File) string { return f.NATS })
	if err != nil {
		return err
	}
	nc, err := nats.Connect(url, nats.Name("onebell dead list"), nats.Timeout(connectLimit))
	if err != nil {
		return exit.Unreached(fmt.Errorf("NATS does not answer: %w: name it with --ready-file FILE or ONEBELL_NATS_URL", err))
	}
	defer nc.Close()
	letters, more, err := c.read(e, nc)
	if err != nil {
		return exit.Unreached(fmt.Errorf("read the stream %s: %w", topology.Dead, err))
	}
	if more {
		fmt.Fprintf(e.Err, "onebell: only the first %d are listed: ask for more with --limit\n", c.Limit)
	}
	if c.JSON {
		return e.printJSON(letters)
	}
	var rows [][]string
	for _, l := range letters {
		rows = append(rows, []string{l.Seq, l.At, l.Subject, l.Reason, l.PageID, l.Detail})
	}
	return e.table([]string{"SEQ", "AT", "SUBJECT", "REASON", "PAGE", "DETAIL"}, rows)
}

// read goes through the headers of what is in the stream now; what comes later is not waited for.
func (c deadList) read(e *Env, nc *nats.Conn) (letters []letter, more bool, err error) {
	ctx, cancel := e.limited()
	defer cancel()
	letters = []letter{}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, false, err
	}
	config := jetstream.OrderedConsumerConfig{HeadersOnly: true}
	if c.Stream != "" {
		config.FilterSubjects = []string{topology.DeadSubject(topology.SubjectToken(c.Stream))}
	}
	consumer, err := js.OrderedConsumer(ctx, topology.Dead, config)
	if err != nil {
		return nil, false, err
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return nil, false, err
	}
	if info.NumPending == 0 {
		return letters, false, nil
	}
	it, err := consumer.Messages()
	if err != nil {
		return nil, false, err
	}
	defer it.Stop()
	for {
		msg, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			return nil, false, err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return nil, false, err
		}
		l := read(msg, meta)
		switch {
		case c.Reason != "" && l.Reason != c.Reason:
		case len(letters) == c.Limit:
			return letters, true, nil
		default:
			letters = append(letters, l)
		}
		if meta.NumPending == 0 {
			return letters, false, nil
		}
	}
}

// read takes a letter from its headers.
func read(msg jetstream.Msg, meta *jetstream.MsgMetadata) letter {
	h := msg.Headers()
	l := letter{
		Seq: strconv.FormatUint(meta.Sequence.Stream, 10), Subject: h.Get(stream.HeaderSubject), Reason: h.Get(stream.HeaderReason),
		Detail: h.Get(stream.HeaderDetail), At: h.Get(stream.HeaderFailedAt), PageID: h.Get(topology.HeaderPage),
		SendID: h.Get(topology.HeaderSendID), PermissionID: h.Get(topology.HeaderPermissionID), AlertID: h.Get(topology.HeaderAlertID),
		Attempts: numeric(h, topology.HeaderAttempts), Code: numeric(h, topology.HeaderCode), Subcode: numeric(h, topology.HeaderSubcode),
	}
	if l.Subject == "" {
		l.Subject = msg.Subject()
	}
	if l.At == "" {
		l.At = meta.Timestamp.UTC().Format("2006-01-02T15:04:05.999Z07:00")
	}
	return l
}

func numeric(h nats.Header, name string) int {
	n, err := strconv.Atoi(strings.TrimSpace(h.Get(name)))
	if err != nil {
		return 0
	}
	return n
}
