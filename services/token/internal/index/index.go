// Package index sees to it that the ledger in Redis holds everything that the streams say before anything is granted: an empty
// or foreign index is rebuilt, one that may have lost its last moments is caught up. Redis may be lost at any time.
package index

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onebell/onebell/pkg/fault"
	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/token/internal/ledger"
)

// Facts are the streams that the index is made from, in the order in which they are applied: people first, for a stopped
// person's permissions are revoked; the order of the others makes no difference (package permission).
var Facts = []string{topology.People, topology.Optins, topology.Tries, topology.Outcomes, topology.Events}

// Apply applies messages of one stream, in order. Applying them again must change nothing.
type Apply func(ctx context.Context, stream string, msgs []jetstream.Msg) error

// Index guards the ledger.
type Index struct {
	js     jetstream.JetStream
	ledger *ledger.Ledger
	marks  Apply
	apply  Apply
	log    *slog.Logger
	// subjects are those of a stream that say something; none named: all of it.
	subjects map[string][]string

	instance string       // the servers behind Redis when it was complete
	epoch    atomic.Value // string: the epoch in which we serve; empty: we do not
	progress atomic.Value // string: what is being done
	lost     chan struct{}
}

// New makes an index that does not serve yet. marks applies the marks of forgotten people: they come first of all, so that what
// is left of those people is not taken up. subjects names, by stream, those that say something, where not all do.
func New(js jetstream.JetStream, l *ledger.Ledger, marks, apply Apply, subjects map[string][]string, log *slog.Logger) *Index {
	x := &Index{js: js, ledger: l, marks: marks, apply: apply, subjects: subjects, log: log, lost: make(chan struct{}, 1)}
	x.epoch.Store("")
	x.progress.Store("waiting for the streams")
	return x
}

// Ready is nil when the ledger is complete. Else it is a fault of kind Unavailable that says how far the rebuild is.
func (x *Index) Ready() error {
	if x.epoch.Load() == "" {
		return fault.Later(2*time.Second, "rebuilding", fmt.Errorf("the index is not complete: %s", x.progress.Load()))
	}
	return nil
}

// Confirm is asked after something was read from the ledger or changed in it, and before that is believed: nil when the ledger
// is still the one that was complete.
func (x *Index) Confirm(ctx context.Context) error {
	ours := x.epoch.Load()
	now, err := x.ledger.Epoch(ctx)
	if err != nil {
		return err
	}
	if now == ours && now != "" {
		return nil
	}
	if x.epoch.CompareAndSwap(ours, "") && ours != "" {
		x.log.Error("Redis is not the one that was complete: it was emptied or replaced")
		select {
		case x.lost <- struct{}{}:
		default:
		}
	}
	return x.Ready()
}

// Run keeps the index complete until ctx ends.
func (x *Index) Run(ctx context.Context) error {
	watch := time.NewTicker(500 * time.Millisecond)
	defer watch.Stop()
	for ctx.Err() == nil {
		if x.epoch.Load() == "" {
			if err := x.complete(ctx); err != nil && ctx.Err() == nil {
				x.log.Warn("the index is not complete yet", "progress", x.progress.Load(), "err", err)
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
			}
			continue
		}
		select {
		case <-ctx.Done():
		case <-x.lost:
		case <-watch.C:
			if err := x.watch(ctx); err != nil {
				x.log.Debug("index", "err", err)
			}
		}
	}
	return nil
}

// watch looks whether Redis is still the one that was complete. One that was restarted, or replaced by its replica, may have
// gone back: until it is caught up nothing is granted.
func (x *Index) watch(ctx context.Context) error {
	if err := x.Confirm(ctx); err != nil {
		return err
	}
	now, err := x.ledger.Instance(ctx)
	if err != nil || now == x.instance {
		return err
	}
	x.log.Warn("Redis was restarted or replaced: its last moments are applied again")
	x.epoch.Store("")
	return nil
}

// complete rebuilds or catches up, and serves.
func (x *Index) complete(ctx context.Context) error {
	if err := x.ledger.LoadScripts(ctx); err != nil {
		return err
	}
	var err error
	if x.instance, err = x.ledger.Instance(ctx); err != nil {
		return err
	}
	identity, err := x.identity(ctx)
	if err != nil {
		return err
	}
	epoch, err := x.ledger.Epoch(ctx)
	if err != nil {
		return err
	}
	sealed, err := x.ledger.Sealed(ctx)
	if err != nil {
		return err
	}
	made, _, _ := strings.Cut(epoch, "/")
	switch {
	case epoch == "":
		return x.rebuild(ctx, identity)
	case made != identity || !sealed:
		x.log.Warn("Redis holds an index of other streams, or one sealed with a key that is not among ONEBELL_SEAL_KEY: it is made anew")
		if err := x.ledger.Clear(ctx); err != nil {
			return err
		}
		return x.rebuild(ctx, identity)
	}
	from, err := x.ledger.Seen(ctx)
	if err != nil {
		return err
	}
	if err := x.replay(ctx, "catching up", from); err != nil {
		return err
	}
	x.epoch.Store(epoch)
	return x.Confirm(ctx)
}

// identity tells these streams from others: when OPTINS was made.
func (x *Index) identity(ctx context.Context) (string, error) {
	info, err := x.js.Stream(ctx, topology.Optins)
	if err != nil {
		return "", err
	}
	return strconv.FormatInt(info.CachedInfo().Created.UnixNano(), 36), nil
}

var errElsewhere = errors.New("another token service rebuilds")

// rebuild applies all facts to an empty index, alone, and marks it complete. A crash anywhere leaves it unmarked: then it is
// done again.
func (x *Index) rebuild(ctx context.Context, identity string) error {
	holder := rand.Text()
	ours, err := x.ledger.Lock(ctx, holder)
	if err != nil {
		return err
	}
	if !ours {
		x.progress.Store(errElsewhere.Error())
		return errElsewhere
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var keeping sync.WaitGroup
	keeping.Go(func() { x.keepLock(ctx, holder, cancel) })
	defer keeping.Wait()
	defer cancel(nil)

	begun := time.Now()
	if err := x.replay(ctx, "rebuilding", nil); err != nil {
		return err
	}
	if err := x.ledger.SetSealed(ctx); err != nil {
		return err
	}
	epoch := identity + "/" + rand.Text()
	done, err := x.ledger.Complete(ctx, holder, epoch)
	if err != nil {
		return err
	}
	if !done {
		return errors.New("the index was emptied during the rebuild")
	}
	x.epoch.Store(epoch)
	x.log.Info("index rebuilt", "took", time.Since(begun))
	return nil
}

// keepLock keeps the lock of the rebuild; when it is lost, the rebuild ends.
func (x *Index) keepLock(ctx context.Context, holder string, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(3 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if ours, err := x.ledger.Lock(ctx, holder); err != nil || !ours {
				cancel(fmt.Errorf("the lock of the rebuild was lost: %w", err))
				return
			}
		}
	}
}

// replay applies the facts of every stream from the given sequences on, up to what is there now.
func (x *Index) replay(ctx context.Context, what string, from map[string]uint64) error {
	if err := x.replayStream(ctx, what, topology.People, from[topology.People]+1, x.marks); err != nil {
		return fmt.Errorf("%s marks: %w", what, err)
	}
	for _, name := range Facts {
		if err := x.replayStream(ctx, what, name, from[name]+1, x.apply); err != nil {
			return fmt.Errorf("%s %s: %w", what, name, err)
		}
	}
	return nil
}

// batch is how many facts go to Redis in one round trip: 256 of them in a pipeline is where more adds only latency.
const batch = 256

func (x *Index) replayStream(ctx context.Context, what, name string, first uint64, apply Apply) error {
	s, err := x.js.Stream(ctx, name)
	if err != nil {
		return err
	}
	last := s.CachedInfo().State.LastSeq
	if first = max(first, s.CachedInfo().State.FirstSeq, 1); last < first {
		return nil
	}
	consumer, err := x.js.OrderedConsumer(ctx, name, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: first, FilterSubjects: x.subjects[name],
	})
	if err != nil {
		return err
	}
	if info := consumer.CachedInfo(); info != nil && info.NumPending == 0 {
		return nil // the last ones were erased: waiting for them would never end
	}
	it, err := consumer.Messages(jetstream.PullMaxMessages(2*batch), jetstream.PullHeartbeat(time.Second), jetstream.PullExpiry(5*time.Second))
	if err != nil {
		return err
	}
	defer it.Stop()
	var said time.Time
	msgs := make([]jetstream.Msg, 0, batch)
	for {
		msg, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		msgs = append(msgs, msg)
		over := meta.Sequence.Stream >= last || meta.NumPending == 0
		if len(msgs) == batch || over {
			if err := apply(ctx, name, msgs); err != nil {
				return err
			}
			msgs = msgs[:0]
			x.progress.Store(fmt.Sprintf("%s %s: %d of %d", what, name, meta.Sequence.Stream, last))
			if time.Since(said) > 5*time.Second {
				said = time.Now()
				x.log.Info(what, "stream", name, "sequence", meta.Sequence.Stream, "last", last)
			}
		}
		if over {
			return nil
		}
	}
}

// NoteSeen notes, every 5 s, up to where everything is applied, so that a Redis that has gone back a little is caught up at
// the next start instead of rebuilt. What is noted is what was so at the tick before: by then it is on Redis' disk, too.
func (x *Index) NoteSeen(ctx context.Context, consumers map[string]jetstream.Consumer) error {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	var before map[string]uint64
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, err := x.seen(ctx, consumers)
		if err == nil && before != nil && x.Ready() == nil {
			err = x.ledger.SetSeen(ctx, before)
		}
		if err != nil {
			x.log.Debug("note what is applied", "err", err)
			continue
		}
		before = now
	}
}

func (x *Index) seen(ctx context.Context, consumers map[string]jetstream.Consumer) (map[string]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	seen := map[string]uint64{}
	for name, c := range consumers {
		info, err := c.Info(ctx)
		if err != nil {
			return nil, err
		}
		seen[name] = info.AckFloor.Stream
	}
	return seen, nil
}

// Ensured makes the durable consumers so that they are there before the first Run, with their handles by stream.
func Ensured(ctx context.Context, js jetstream.JetStream, log *slog.Logger, consumers ...stream.Consumer) (map[string]jetstream.Consumer, error) {
	handles := map[string]jetstream.Consumer{}
	for _, c := range consumers {
		err := stream.Until(ctx, log, "consumer is not there yet", func(ctx context.Context) error {
			h, err := c.Ensure(ctx, js)
			handles[c.Stream] = h
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return handles, nil
}
