package pace

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/onebell/onebell/pkg/testkit"
)

// most is the largest number of moments in any window of the given length.
func most(moments []time.Time, window time.Duration) int {
	slices.SortFunc(moments, time.Time.Compare)
	worst, from := 0, 0
	for to := range moments {
		for moments[to].Sub(moments[from]) >= window {
			from++
		}
		worst = max(worst, to-from+1)
	}
	return worst
}

// run lets callers wait in a loop until ctx ends, and collects when they were let go.
func run(ctx context.Context, p *Pacer, callers int, urgent bool, start func(time.Time)) *sync.WaitGroup {
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for p.Wait(ctx, urgent) == nil {
				start(time.Now())
			}
		})
	}
	return &wg
}

type journal struct {
	mu      sync.Mutex
	moments []time.Time
}

func (j *journal) add(t time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.moments = append(j.moments, t)
}

// virtual tells a story in turned time, over a stand-in for Redis that lives in the same time.
func virtual(t *testing.T, story func(t *testing.T, store *Store)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := miniredis.NewMiniRedis()
		m.ClockTTL(true)
		rdb := redis.NewClient(&redis.Options{
			Addr: "127.0.0.1:1", ContextTimeoutEnabled: true,
			Dialer: func(context.Context, string, string) (net.Conn, error) { return m.Dial() },
		})
		story(t, NewStore(rdb))
		_ = rdb.Close()
		m.Close()
		synctest.Wait()
	})
}

var quiet = slog.New(slog.DiscardHandler)

func TestTwoWorkersKeepThePaceAndUseIt(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{0.5, 2, 30, 250} {
		virtual(t, func(t *testing.T, store *Store) {
			const span = time.Minute
			ctx, cancel := context.WithTimeout(t.Context(), span)
			defer cancel()
			var calls journal
			for range 2 {
				p := NewPacer(store, "42", "text", quiet)
				p.Set(rate, "f")
				defer run(ctx, p, 100, false, calls.add).Wait()
			}
			<-ctx.Done()
			synctest.Wait()
			if got, limit := most(calls.moments, time.Second), max(int(rate), 1); got > limit {
				t.Errorf("rate %g: %d calls within a second", rate, got)
			}
			if got, want := float64(len(calls.moments)), 0.95*rate*span.Seconds(); got < want {
				t.Errorf("rate %g: %g calls in %s, want at least %g", rate, got, span, want)
			}
		})
	}
}

func TestUrgentCallsGoFirst(t *testing.T) {
	t.Parallel()
	virtual(t, func(t *testing.T, store *Store) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		p := NewPacer(store, "42", "text", quiet)
		p.Set(10, "f")
		var normal, urgent journal
		a := run(ctx, p, 20, false, normal.add)
		b := run(ctx, p, 20, true, urgent.add)
		<-ctx.Done()
		a.Wait()
		b.Wait()
		if len(urgent.moments) < 95 || len(normal.moments) > 3 {
			t.Errorf("%d urgent and %d normal calls", len(urgent.moments), len(normal.moments))
		}
	})
}

func TestAThrottleStopsAllWorkersWithinASecondAndEndsByItself(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{0.4, 30} {
		virtual(t, func(t *testing.T, store *Store) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			var calls journal
			var all sync.WaitGroup
			for range 3 {
				p := NewPacer(store, "42", "text", quiet)
				p.Set(rate, "f")
				for range 10 {
					all.Go(func() {
						for ctx.Err() == nil {
							var stopped *StoppedError
							switch err := p.Wait(ctx, false); {
							case err == nil:
								calls.add(time.Now())
							case errors.As(err, &stopped):
								time.Sleep(time.Until(stopped.Until))
							}
						}
					})
				}
			}
			time.Sleep(time.Minute)
			stopped := time.Now()
			if _, err := store.Throttle(ctx, "42", 3*time.Minute); err != nil {
				t.Fatal(err)
			}
			<-ctx.Done()
			all.Wait()
			var during, after int
			for _, at := range calls.moments {
				switch since := at.Sub(stopped); {
				case since > time.Second && since < 3*time.Minute:
					during++
				case since >= 3*time.Minute:
					after++
				}
			}
			if during > 0 || float64(after) < 0.95*rate*6*60-1 {
				t.Errorf("rate %g: %d calls while stopped, %d after", rate, during, after)
			}
		})
	}
}

func TestBackOffDoublesAndForgets(t *testing.T) {
	t.Parallel()
	virtual(t, func(t *testing.T, store *Store) {
		ctx := t.Context()
		for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
			for range 3 { // calls under way say the same again
				got, err := store.Throttle(ctx, "42", 0)
				if err != nil || got != want*time.Minute {
					t.Fatalf("back-off %s (%v), want %s", got, err, want*time.Minute)
				}
			}
			time.Sleep(want*time.Minute + time.Second)
		}
		time.Sleep(3 * time.Hour)
		if got, _ := store.Throttle(ctx, "42", 0); got != time.Minute {
			t.Errorf("after hours of peace: %s", got)
		}
		if got, _ := store.Throttle(ctx, "42", 20*time.Minute); got != 20*time.Minute {
			t.Errorf("a longer stated time makes the stop longer: %s", got)
		}
	})
}

func TestARefusalHoldsForOneTokenOnly(t *testing.T) {
	t.Parallel()
	virtual(t, func(t *testing.T, store *Store) {
		ctx := t.Context()
		p := NewPacer(store, "42", "text", quiet)
		p.Set(10, Fingerprint("old"))
		if err := p.Wait(ctx, false); err != nil {
			t.Fatal(err)
		}
		if err := store.Refuse(ctx, "42", Fingerprint("old")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		var stopped *StoppedError
		if err := p.Wait(ctx, false); !errors.As(err, &stopped) || !stopped.Refused {
			t.Fatalf("refused page: %v", err)
		}
		p.Set(10, Fingerprint("new"))
		if err := p.Wait(ctx, false); err != nil {
			t.Fatalf("after the token changed: %v", err)
		}
	})
}

// Redis may be told of a stop late or never: it holds here all the same.
func TestAStopHoldsHereWhateverRedisSays(t *testing.T) {
	t.Parallel()
	virtual(t, func(t *testing.T, store *Store) {
		ctx := t.Context()
		p := NewPacer(store, "42", "text", quiet)
		p.Set(10, "f")
		if err := p.Wait(ctx, false); err != nil {
			t.Fatal(err)
		}
		p.Hold(State{Until: time.Now().Add(time.Minute)}, "")
		for range 5 {
			var stopped *StoppedError
			if err := p.Wait(ctx, false); !errors.As(err, &stopped) {
				t.Fatalf("held page: %v", err)
			}
			time.Sleep(11 * time.Second)
		}
		time.Sleep(6 * time.Second)
		if err := p.Wait(ctx, false); err != nil {
			t.Errorf("after its end: %v", err)
		}
		p.Hold(State{Refused: true}, "another token")
		if err := p.Wait(ctx, false); err != nil {
			t.Errorf("refused with another token: %v", err)
		}
		p.Hold(State{Refused: true}, "f")
		time.Sleep(time.Hour)
		if s, err := p.State(ctx); err != nil || !s.Refused {
			t.Errorf("refused: %v %v", s, err)
		}
		p.Learn(State{Refused: true}) // Redis was told, and somebody ended it there
		time.Sleep(time.Second)
		if s, err := p.State(ctx); err != nil || s.Stopped() {
			t.Errorf("as Redis says: %v %v", s, err)
		}
	})
}

func TestUnusedSlotsAreGivenBack(t *testing.T) {
	t.Parallel()
	virtual(t, func(t *testing.T, store *Store) {
		p := NewPacer(store, "42", "text", quiet)
		p.Set(2, "f")
		ctx, cancel := context.WithCancel(t.Context())
		waiting := run(ctx, p, 1, false, func(time.Time) { cancel() }) // asks for the next slot, then leaves
		waiting.Wait()
		synctest.Wait()
		before := time.Now()
		time.Sleep(500 * time.Millisecond)
		if err := p.Wait(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(before); waited > 510*time.Millisecond {
			t.Errorf("waited %s for a slot that nobody used", waited)
		}
	})
}

func TestAMissedSlotIsForfeited(t *testing.T) {
	t.Parallel()
	now := time.Now()
	d := &dispatcher{Pacer: NewPacer(nil, "42", "text", quiet)}
	d.known = now
	for i := range 4 { // 0.35 s late: the first three are lost
		d.slots = append(d.slots, slot{at: now.Add(time.Duration(i)*100*time.Millisecond - 350*time.Millisecond), spacing: 100 * time.Millisecond})
	}
	var waiters []*waiter
	for range 4 {
		w := &waiter{turn: make(chan error, 1)}
		waiters = append(waiters, w)
	}
	d.normal = slices.Clone(waiters)
	d.fire()
	if d.forfeited != 3 || len(waiters[0].turn) != 1 || len(waiters[1].turn) != 0 {
		t.Errorf("%d slots forfeited, %d waiters left", d.forfeited, len(d.normal))
	}
}

// The last waiter left while a question to Redis is open: the dispatcher waits for the answer and does not turn in circles.
func TestADueSlotThatNobodyWaitsForWakesNobody(t *testing.T) {
	t.Parallel()
	now := time.Now()
	d := &dispatcher{Pacer: NewPacer(nil, "42", "text", quiet), asked: make(chan asking)}
	d.known = now
	d.slots = []slot{{at: now.Add(-time.Millisecond), spacing: time.Minute}}
	if got := d.pause(1); got != 0 {
		t.Errorf("somebody waits for the slot: %s", got)
	}
	if got := d.pause(0); got < time.Second {
		t.Errorf("nobody waits for the slot: %s", got)
	}
}

func TestTwoWorkersOnARealRedis(t *testing.T) {
	t.Parallel()
	_, rdb := testkit.Redis(t)
	const rate, span = 40, 3 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), span)
	defer cancel()
	var slots journal
	var all sync.WaitGroup
	for range 2 {
		p := NewPacer(NewStore(rdb), "42", "text", testkit.Log(t))
		p.Set(rate, "f")
		all.Go(run(ctx, p, 50, false, slots.add).Wait)
	}
	all.Wait()
	// The machine may be busy: a goroutine that starts late makes a window fuller, by what it was late.
	if got := most(slots.moments, time.Second); got > rate+3 {
		t.Errorf("%d calls within a second, %d permitted", got, rate)
	}
	t.Logf("%d calls in %s at %d/s, %d at most within a second", len(slots.moments), span, rate, most(slots.moments, time.Second))
	if got := len(slots.moments); got < int(0.8*rate*span.Seconds()) {
		t.Errorf("%d calls in %s, want %g", got, span, rate*span.Seconds())
	}
}
