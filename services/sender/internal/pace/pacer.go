package pace

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

const (
	// slice is how much of a page's pace is reserved at once: a permit costs no round trip of its own, and what a killed
	// worker takes along is soon past.
	slice = 250 * time.Millisecond
	// ahead is how long before the last slot of a slice the next one is asked for: above any usual round trip to Redis, so
	// that no slot between two slices is lost.
	ahead = 100 * time.Millisecond
	// fresh is how old the knowledge that a page is not stopped may be when a call starts: with the time to learn it again
	// this stays below the second after which no call may start (contract, section B).
	fresh = 400 * time.Millisecond
	// again is how soon Redis is asked again after it did not answer.
	again = 250 * time.Millisecond
)

// State is whether a page may send.
type State struct {
	Until   time.Time // stopped until then; zero: not stopped for a time
	Refused bool      // stopped until its access token changed
}

// Stopped tells whether the page must not send now.
func (s State) Stopped() bool { return s.Refused || !s.Until.IsZero() }

// StoppedError is what Wait gives while a page is stopped.
type StoppedError struct{ State }

func (*StoppedError) Error() string { return "the page is stopped" }

// ErrRedisAway is what State gives when Redis does not answer.
var ErrRedisAway = errors.New("redis does not answer")

// Pacer hands out the slots of one page and class to this worker's calls.
type Pacer struct {
	store       *Store
	page, class string
	log         *slog.Logger

	mu          sync.Mutex
	spacing     time.Duration
	fingerprint string
	urgent      []*waiter
	normal      []*waiter
	running     bool
	state       State
	known       time.Time // when state was learnt
	held        State     // a stop known here that Redis may not have been told of
	clock       clock
	forfeited   int64
	wake        chan struct{}
}

type waiter struct {
	turn chan error // capacity 1: nil, it is your turn; else why not
	gone bool
}

// NewPacer makes a pacer; Set must be called before use.
func NewPacer(store *Store, page, class string, log *slog.Logger) *Pacer {
	return &Pacer{store: store, page: page, class: class, log: log, wake: make(chan struct{}, 1)}
}

// Set says the rate, in calls a second, and the fingerprint of the page's access token. It may change at any time.
func (p *Pacer) Set(rate float64, fingerprint string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// Rounded up to a whole microsecond: never faster than asked.
	p.spacing = time.Duration(float64(time.Second)/rate) + time.Microsecond - 1
	p.spacing = p.spacing.Truncate(time.Microsecond)
	if p.fingerprint != fingerprint {
		p.fingerprint, p.state, p.known = fingerprint, State{}, time.Time{}
		p.held.Refused = false
	}
}

// Spacing is the time between two calls.
func (p *Pacer) Spacing() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.spacing
}

// TakeForfeited counts the slots that were missed by more than their own spacing, since it was last asked.
func (p *Pacer) TakeForfeited() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.forfeited
	p.forfeited = 0
	return n
}

// Wait returns nil when one call may start now. Urgent calls go first. A *StoppedError: the page is stopped.
func (p *Pacer) Wait(ctx context.Context, urgent bool) error {
	w := &waiter{turn: make(chan error, 1)}
	p.mu.Lock()
	if urgent {
		p.urgent = append(p.urgent, w)
	} else {
		p.normal = append(p.normal, w)
	}
	if !p.running {
		p.running = true
		go p.dispatch()
	}
	p.mu.Unlock()
	p.nudge()
	select {
	case err := <-w.turn:
		return err
	case <-ctx.Done():
		p.mu.Lock()
		w.gone = true
		p.mu.Unlock()
		p.nudge()
		select {
		case err := <-w.turn: // it was our turn at the same moment
			return err
		default:
			return context.Cause(ctx)
		}
	}
}

// State tells whether the page may send, as Redis says, at most a moment old.
func (p *Pacer) State(ctx context.Context) (State, error) {
	p.mu.Lock()
	over := !p.state.Until.IsZero() && time.Now().After(p.state.Until)
	if time.Since(p.known) < fresh && !over {
		defer p.mu.Unlock()
		return p.state, nil
	}
	p.mu.Unlock()
	r, err := p.ask(ctx, 0)
	if err != nil {
		return State{}, errors.Join(ErrRedisAway, err)
	}
	return p.learn(r), nil
}

// Hold is told of a stop before Redis is: everybody who waits is sent away at once, and what Redis says does not end it,
// until Learn or its own end. A refusal counts for the access token with this fingerprint only.
func (p *Pacer) Hold(s State, fingerprint string) {
	p.mu.Lock()
	if !s.Refused || p.fingerprint == fingerprint {
		p.held, p.state, p.known = s, s, time.Now()
	}
	p.mu.Unlock()
	p.nudge()
}

// Learn is told of a stop that this worker itself has just written to Redis. From now on it is as Redis says.
func (p *Pacer) Learn(s State) {
	p.mu.Lock()
	p.held, p.state, p.known = State{}, s, time.Now()
	p.mu.Unlock()
	p.nudge()
}

func (p *Pacer) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *Pacer) ask(ctx context.Context, want int) (reservation, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	p.mu.Lock()
	fingerprint, spacing, lead := p.fingerprint, p.spacing, min(p.clock.rtt, 20*time.Millisecond)
	p.mu.Unlock()
	// Slots are given at most a second ahead: what one worker reserves is soon used, and all get their share.
	return p.store.reserve(ctx, p.page, p.class, fingerprint, want, spacing, lead, max(time.Second, 2*spacing))
}

func (p *Pacer) learn(r reservation) State {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clock.learn(r.asked, r.answered, r.now)
	s := State{Refused: r.refused}
	if r.stoppedUntil > 0 {
		s.Until = p.clock.at(r.stoppedUntil)
	}
	switch {
	case p.held.Refused:
		s.Refused = true
	case !time.Now().Before(p.held.Until):
		p.held = State{}
	case p.held.Until.After(s.Until):
		s.Until = p.held.Until
	}
	// A stop that this worker wrote while the question was on its way is younger than the answer.
	if p.known.Before(r.asked) {
		p.state, p.known = s, r.asked
	}
	return p.state
}

// next takes the first waiter that is still there. The caller holds the lock.
func (p *Pacer) next() *waiter {
	for _, queue := range []*[]*waiter{&p.urgent, &p.normal} {
		for len(*queue) > 0 {
			w := (*queue)[0]
			*queue = (*queue)[1:]
			if !w.gone {
				return w
			}
		}
	}
	return nil
}

// waiting counts those that are still there and forgets the others. The caller holds the lock.
func (p *Pacer) waiting() int {
	for _, queue := range []*[]*waiter{&p.urgent, &p.normal} {
		kept := (*queue)[:0]
		for _, w := range *queue {
			if !w.gone {
				kept = append(kept, w)
			}
		}
		clear((*queue)[len(kept):])
		*queue = kept
	}
	return len(p.urgent) + len(p.normal)
}
