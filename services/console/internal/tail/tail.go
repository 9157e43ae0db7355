// Package tail keeps the last outcomes in memory, as the stream OUTCOMES has them. It judges nothing.
package tail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/onebell/onebell/pkg/stream"
	outcomev1 "github.com/onebell/onebell/proto/onebell/outcome/v1"
	"github.com/onebell/onebell/proto/topology"
)

// Tail is the end of OUTCOMES. Safe for use from many goroutines.
type Tail struct {
	js   jetstream.JetStream
	size int
	log  *slog.Logger

	mu      sync.Mutex
	last    []*outcomev1.Outcome // oldest first
	problem error
}

// ErrNotYet is the problem of a tail that has only begun to read.
var ErrNotYet = errors.New("not read yet")

// New makes an empty tail of at most `size` outcomes.
func New(js jetstream.JetStream, size int, log *slog.Logger) *Tail {
	return &Tail{js: js, size: size, log: log, problem: ErrNotYet}
}

// Last is the outcomes, newest first. With an error they are those known before the stream went away.
func (t *Tail) Last() ([]*outcomev1.Outcome, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := slices.Clone(t.last)
	slices.Reverse(last)
	// While the connection is lost the iterator is silent: it goes on by itself afterwards.
	if nc := t.js.Conn(); t.problem == nil && !nc.IsConnected() {
		return last, fmt.Errorf("outcomes: NATS is %s", strings.ToLower(nc.Status().String()))
	}
	return last, t.problem
}

// Follow reads the stream until ctx ends, and begins again with its end whenever it was lost.
func (t *Tail) Follow(ctx context.Context) error {
	for {
		var it jetstream.MessagesContext
		err := stream.Until(ctx, t.log, "outcomes cannot be read yet", func(ctx context.Context) (err error) {
			it, err = t.open(ctx)
			if err != nil {
				t.lost(err)
			}
			return err
		})
		if err != nil {
			return nil //nolint:nilerr // ctx ended before the stream was there
		}
		if err := t.read(ctx, it); ctx.Err() == nil {
			t.lost(err)
		}
	}
}

// open begins with the newest outcomes that the stream has.
func (t *Tail) open(ctx context.Context) (jetstream.MessagesContext, error) {
	s, err := t.js.Stream(ctx, topology.Outcomes)
	if err != nil {
		return nil, err
	}
	state := s.CachedInfo().State
	first := max(state.FirstSeq, 1)
	if size := uint64(t.size); state.LastSeq > size {
		first = max(first, state.LastSeq-size+1)
	}
	// One try to set the consumer up again, then we do it here, where the page learns of it.
	cons, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: first,
		MaxResetAttempts: 1, InactiveThreshold: 30 * time.Second,
	})
	if err != nil {
		return nil, err
	}
	it, err := cons.Messages(jetstream.PullHeartbeat(time.Second), jetstream.PullExpiry(10*time.Second))
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last, t.problem = nil, nil
	return it, nil
}

func (t *Tail) read(ctx context.Context, it jetstream.MessagesContext) error {
	defer context.AfterFunc(ctx, it.Stop)()
	defer it.Stop()
	for {
		msg, err := it.Next()
		if err != nil {
			return fmt.Errorf("outcomes: %w", err)
		}
		o := &outcomev1.Outcome{}
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(msg.Data(), o); err != nil {
			t.log.Warn("outcome cannot be read", "subject", msg.Subject(), "err", err)
			continue
		}
		t.add(o)
	}
}

func (t *Tail) add(o *outcomev1.Outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.last) == t.size {
		t.last = slices.Delete(t.last, 0, 1)
	}
	t.last = append(t.last, o)
}

func (t *Tail) lost(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.problem = err
}
