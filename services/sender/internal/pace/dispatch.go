package pace

import (
	"context"
	"time"
)

// slot is a moment at which one call may start.
type slot struct {
	micros  int64 // Redis' clock
	at      time.Time
	spacing time.Duration
}

// asking is a question to Redis under way.
type asking struct {
	r   reservation
	err error
}

// dispatcher hands slots to waiters. It lives as long as somebody waits.
type dispatcher struct {
	*Pacer
	slots  []slot
	end    int64 // µs: the end of the last slice
	asked  chan asking
	notYet time.Time // Redis is not asked before
}

func (p *Pacer) dispatch() {
	d := &dispatcher{Pacer: p}
	for {
		waiting, alive := d.look()
		if !alive {
			return
		}
		d.ask(waiting)
		timer := time.NewTimer(d.pause(waiting))
		select {
		case a := <-d.asked:
			d.asked = nil
			d.answered(a)
		case <-timer.C:
			d.fire()
		case <-p.wake:
		}
		timer.Stop()
	}
}

// look counts who waits, sends everybody away when the page is stopped, and ends the dispatcher when nobody is left.
func (d *dispatcher) look() (waiting int, alive bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state.Stopped() {
		if d.state.Until.IsZero() || time.Now().Before(d.state.Until) {
			for w := d.next(); w != nil; w = d.next() {
				w.turn <- &StoppedError{d.state}
			}
		} else {
			d.state, d.known = State{}, time.Time{} // the time is over: ask again before the next call
		}
	}
	waiting = d.waiting()
	if waiting == 0 && d.asked == nil {
		d.running = false
		d.giveBack()
		return 0, false
	}
	return waiting, true
}

// ask asks Redis for slots when there are more waiters than slots and the slots will soon be used up, or only for the
// state of the page when that is too old for the slot that is due.
func (d *dispatcher) ask(waiting int) {
	now := time.Now()
	if d.asked != nil || waiting == 0 || now.Before(d.notYet) {
		return
	}
	want := 0
	if n := len(d.slots); waiting > n && (n == 0 || d.slots[n-1].at.Sub(now) <= ahead) {
		want = min(waiting-n, max(1, int(slice/d.Spacing())))
	}
	if want == 0 && !d.staleAt(now) {
		return
	}
	answer := make(chan asking, 1)
	d.asked = answer
	go func() {
		r, err := d.Pacer.ask(context.Background(), want) // slots belong to all waiters, not to one's context; bounded by 2 s
		answer <- asking{r, err}
	}()
}

// staleAt tells whether a slot is due and it is not known freshly enough that the page may send.
func (d *dispatcher) staleAt(now time.Time) bool {
	if len(d.slots) == 0 || d.slots[0].at.After(now) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return now.Sub(d.known) > fresh
}

func (d *dispatcher) answered(a asking) {
	if a.err != nil {
		d.notYet = time.Now().Add(again)
		d.log.Warn("no slots", "page", d.page, "err", a.err)
		return
	}
	state := d.learn(a.r)
	if a.r.given == 0 {
		if a.r.first > 0 && !state.Stopped() {
			// Other workers have reserved enough for now.
			d.notYet = time.Now().Add(slice / 2)
		}
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range int64(a.r.given) {
		micros := a.r.first + i*a.r.spacing
		d.slots = append(d.slots, slot{micros, d.clock.at(micros), time.Duration(a.r.spacing) * time.Microsecond})
	}
	d.end = a.r.first + int64(a.r.given)*a.r.spacing
}

// fire gives the slots that are due to waiters, urgent ones first. A slot missed by more than its own spacing is
// forfeited: catching up would be a burst.
func (d *dispatcher) fire() {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.slots) > 0 && !d.slots[0].at.After(now) {
		if now.Sub(d.slots[0].at) > d.slots[0].spacing {
			d.forfeited++
			d.slots = d.slots[1:]
			continue
		}
		if d.state.Stopped() || now.Sub(d.known) > fresh {
			return // asked first
		}
		w := d.next()
		if w == nil {
			return
		}
		d.slots = d.slots[1:]
		w.turn <- nil
	}
}

// pause is how long nothing is to be done; whoever changes something nudges before.
func (d *dispatcher) pause(waiting int) time.Duration {
	now := time.Now()
	next, n := now.Add(10*time.Second), len(d.slots)
	earliest := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	stale := d.staleAt(now)
	if n > 0 && waiting > 0 && !stale { // a slot that is due and that nobody waits for is nothing to wake up for
		earliest(d.slots[0].at)
	}
	if d.asked == nil && (stale || waiting > n) {
		ask := now
		if !stale && n > 0 {
			ask = d.slots[n-1].at.Add(-ahead)
		}
		if ask.Before(d.notYet) {
			ask = d.notYet
		}
		earliest(ask)
	}
	return max(next.Sub(now), 0)
}

// giveBack returns the unused slots at the end of the last slice. The caller holds the lock.
func (d *dispatcher) giveBack() {
	n := len(d.slots)
	if n == 0 {
		return
	}
	first := d.end
	for i := n - 1; i >= 0 && d.slots[i].micros == first-d.slots[i].spacing.Microseconds(); i-- {
		first = d.slots[i].micros
	}
	end, log := d.end, d.log
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := d.store.giveBack(ctx, d.page, d.class, end, first); err != nil {
			log.Debug("slots not given back", "page", d.page, "err", err)
		}
	}()
}
