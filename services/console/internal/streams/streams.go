// Package streams tells what lies in the streams: how much, who has yet to read it, and what was given up.
// It reads no message body.
package streams

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/proto/topology"
)

// Stream is the state of one stream.
type Stream struct {
	Name      string
	Missing   bool // nobody made it yet
	Messages  uint64
	Bytes     uint64
	Consumers []Consumer
}

// Consumer is how far a durable reader is.
type Consumer struct {
	Name    string
	Pending uint64 // not yet handed out
	Out     int    // handed out or put off, not yet acknowledged
}

// Look tells the state of every stream of the table, in its order.
func Look(ctx context.Context, js jetstream.JetStream) ([]Stream, error) {
	found := make([]Stream, 0, len(topology.Table))
	for _, row := range topology.Table {
		one, err := look(ctx, js, row.Name)
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", row.Name, err)
		}
		found = append(found, one)
	}
	return found, nil
}

func look(ctx context.Context, js jetstream.JetStream, name string) (Stream, error) {
	s, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return Stream{Name: name, Missing: true}, nil
	}
	if err != nil {
		return Stream{}, err
	}
	state := s.CachedInfo().State
	found := Stream{Name: name, Messages: state.Msgs, Bytes: state.Bytes}
	list := s.ListConsumers(ctx)
	for c := range list.Info() {
		// Those without a durable name are people looking, like this page.
		if c.Config.Durable != "" {
			found.Consumers = append(found.Consumers, Consumer{Name: c.Name, Pending: c.NumPending, Out: c.NumAckPending})
		}
	}
	slices.SortFunc(found.Consumers, func(a, b Consumer) int { return strings.Compare(a.Name, b.Name) })
	return found, list.Err()
}

// Given says how many letters of one kind were given up, and why.
type Given struct {
	From   string // what they were: webhooks, optins, sends, …
	Reason string
	Count  int
}

// Letters is the state of DEAD.
type Letters struct {
	Total   uint64
	Counted int // letters whose reason was read: the oldest readable
	Reasons []Given
}

// readable bounds the letters read to count reasons: their headers alone are about 5 MB.
const readable = 10_000

// Dead counts dead letters, and reads them again only when there are others. For one goroutine at a time.
type Dead struct {
	js   jetstream.JetStream
	seen [3]uint64
	last Letters
}

// NewDead makes a counter of dead letters.
func NewDead(js jetstream.JetStream) *Dead { return &Dead{js: js} }

// Count counts the letters by reason, the most frequent first.
func (d *Dead) Count(ctx context.Context) (Letters, error) {
	s, err := d.js.Stream(ctx, topology.Dead)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return Letters{}, nil
	}
	if err != nil {
		return Letters{}, err
	}
	state := s.CachedInfo().State
	now := [3]uint64{state.FirstSeq, state.LastSeq, state.Msgs}
	if now == d.seen {
		return d.last, nil
	}
	letters, err := count(ctx, s, state.Msgs)
	if err == nil {
		d.seen, d.last = now, letters
	}
	return letters, err
}

func count(ctx context.Context, s jetstream.Stream, total uint64) (Letters, error) {
	letters := Letters{Total: total}
	if total == 0 {
		return letters, nil
	}
	cons, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		HeadersOnly: true, MaxResetAttempts: 1, InactiveThreshold: 10 * time.Second,
	})
	if err != nil {
		return letters, err
	}
	batch, err := cons.Fetch(int(min(total, readable)), jetstream.FetchMaxWait(time.Second))
	if err != nil {
		return letters, err
	}
	counts := map[Given]int{}
	for msg := range batch.Messages() {
		counts[Given{From: strings.TrimPrefix(msg.Subject(), "dead."), Reason: msg.Headers().Get(stream.HeaderReason)}]++
		letters.Counted++
	}
	for g, n := range counts {
		g.Count = n
		letters.Reasons = append(letters.Reasons, g)
	}
	slices.SortFunc(letters.Reasons, func(a, b Given) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.From, b.From), strings.Compare(a.Reason, b.Reason))
	})
	return letters, batch.Error()
}
