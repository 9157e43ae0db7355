// Package sweep moves permissions that have lapsed to expired, a few at a time. Any number of replicas may do so at once: every
// move is a script that answers "nothing to do" when asked twice. Nothing waits for it: a lapsed permission is refused anyway.
package sweep

import (
	"context"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/onebell/onebell/services/token/internal/ledger"
)

// Sweeper moves lapsed permissions.
type Sweeper struct {
	Ledger *ledger.Ledger
	Ready  func() error // nil when the index is complete
	Log    *slog.Logger

	upto map[ledger.Day]time.Time // what lapsed before was swept by this process
}

const (
	// interval between two rounds. A round over days on which nothing new lapsed costs a command for each shard and page.
	interval = 10 * time.Second
	// step is how many permissions are moved in one round trip, pause what follows it: callers come in between, and a day on
	// which a million lapse takes about a minute and a half.
	step  = 100
	pause = 5 * time.Millisecond
	// overlap is swept again, for the clocks of two Redis servers may differ.
	overlap = time.Minute
)

var swept = func() metric.Int64Counter {
	counter, _ := otel.Meter("onebell/token").Int64Counter("onebell_token_swept", metric.WithDescription("lapsed permissions looked at by the sweeper, by result"))
	return counter
}()

var took = func() metric.Float64Histogram {
	histogram, _ := otel.Meter("onebell/token").Float64Histogram("onebell_token_sweep_seconds", metric.WithUnit("s"), metric.WithDescription("how long a round of the sweeper took"))
	return histogram
}()

// Run sweeps until ctx ends.
func (s *Sweeper) Run(ctx context.Context) error {
	s.upto = map[ledger.Day]time.Time{}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if s.Ready() == nil {
			begun := time.Now()
			moved, err := s.round(ctx)
			took.Record(ctx, time.Since(begun).Seconds())
			switch {
			case err != nil && ctx.Err() == nil:
				s.Log.Warn("lapsed permissions are not all moved yet", "err", err)
			case moved > 0:
				s.Log.Info("permissions lapsed", "permissions", moved, "took", time.Since(begun))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// round moves what has lapsed on every page.
func (s *Sweeper) round(ctx context.Context) (moved int, err error) {
	pages, err := s.Ledger.Pages(ctx)
	if err != nil {
		return 0, err
	}
	now, err := s.Ledger.Clock(ctx)
	if err != nil {
		return 0, err
	}
	for _, page := range pages {
		days, err := s.Ledger.Days(ctx, page, time.UnixMilli(0), now)
		if err != nil {
			return moved, err
		}
		for _, d := range days {
			n, err := s.day(ctx, d, now)
			moved += n
			if err != nil {
				return moved, err
			}
		}
	}
	return moved, nil
}

// day moves what has lapsed on a day. Once it is over, all of it is gone through a last time, and its list is removed.
func (s *Sweeper) day(ctx context.Context, d ledger.Day, now time.Time) (moved int, err error) {
	var after time.Time
	if !d.Over(now) {
		after = s.upto[d].Add(-overlap)
	}
	place, waiting := int64(0), 0
	for {
		some, next, err := s.Ledger.Lapses(ctx, d, place)
		if err != nil {
			return moved, err
		}
		if next == place {
			break
		}
		place = next
		due := make([]string, 0, len(some))
		for _, e := range some {
			if !e.At.After(now) && !e.At.Before(after) {
				due = append(due, e.PermissionID)
			}
		}
		n, later, err := s.move(ctx, d.PageID, due)
		moved, waiting = moved+n, waiting+later
		if err != nil {
			return moved, err
		}
	}
	if !d.Over(now) {
		s.upto[d] = now
		return moved, nil
	}
	delete(s.upto, d)
	if waiting > 0 {
		return moved, nil // a lease runs: next time
	}
	return moved, s.Ledger.CloseDay(ctx, d, place)
}

// move moves permissions step by step.
func (s *Sweeper) move(ctx context.Context, pageID string, due []string) (moved, later int, err error) {
	for len(due) > 0 {
		n := min(step, len(due))
		m, l, err := s.Ledger.Expire(ctx, pageID, due[:n])
		if err != nil {
			return moved, later, err
		}
		moved, later, due = moved+m, later+l, due[n:]
		for result, k := range map[string]int{"moved": m, "later": l, "nothing": n - m - l} {
			swept.Add(ctx, int64(k), metric.WithAttributes(attribute.String("result", result)))
		}
		select {
		case <-ctx.Done():
			return moved, later, ctx.Err()
		case <-time.After(pause):
		}
	}
	return moved, later, nil
}
