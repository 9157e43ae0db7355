package permission

import (
	"slices"
	"time"
)

// Effect is what a fact says of a grant.
type Effect string

// The effects.
const (
	Spends   Effect = "spend"   // a message was sent
	Voids    Effect = "void"    // the platform says that the token is good for nothing
	Expires  Effect = "expire"  // found lapsed by whoever wanted to use it
	Clouds   Effect = "cloud"   // a call was made, and it is not known whether the message went out
	Tries    Effect = "try"     // a call is about to be made
	Releases Effect = "release" // certain that nothing was sent
)

// Fact is what became of one grant.
type Fact struct {
	Effect    Effect
	Send      string
	Fence     uint64    // zero, from whoever was never granted, is good for Spends (an echo), Voids and Expires only
	MessageID string    // Spends
	NotBefore time.Time // Releases: parked until; zero: not
}

// Answer is what became of a fact.
type Answer string

// The answers.
const (
	Settled Answer = "settled" // it counts
	Already Answer = "already" // it was known, or the permission is ended
	Stale   Answer = "stale"   // not about the latest grant: only a doubt comes or goes
	Missing Answer = "missing" // Check: there is no such permission
)

// Apply applies a fact.
func (r *Record) Apply(f Fact, now time.Time) Answer {
	switch f.Effect {
	case Spends, Voids, Expires:
		return r.end(f)
	case Clouds, Tries:
		return r.cloud(f, now)
	case Releases:
		return r.release(f, now)
	}
	panic("permission: unknown effect " + f.Effect)
}

// end ends the permission. Spent goes before void, void before expired; of two ends of one kind the one that names a message
// is told, else the one of the higher fence.
func (r *Record) end(f Fact) Answer {
	to := map[Effect]State{Spends: Spent, Voids: Void, Expires: Expired}[f.Effect]
	rank := map[State]int{Spent: 3, Void: 2, Expired: 1}
	answer := Settled
	if r.Ended {
		if rank[r.State] > rank[to] {
			return Already
		}
		if r.State == to {
			answer = Already
			if named := f.MessageID != ""; named != (r.MessageID != "") {
				if !named {
					return Already
				}
			} else if f.Fence <= r.Fence {
				return Already
			}
		}
	}
	*r = Record{
		Known: r.Known, Topic: r.Topic, Lapses: r.Lapses, Stopped: r.Stopped,
		State: to, Ended: true, Send: f.Send, Fence: f.Fence, MessageID: f.MessageID,
	}
	return answer
}

// rise takes the fence of a fact as the highest, when it is: a grant that was in force has been followed by this one.
func (r *Record) rise(f Fact, now time.Time) {
	if f.Fence > r.Fence {
		r.Fence, r.Send, r.NotBefore = f.Fence, f.Send, time.Time{}
		r.State = r.rest(now)
	}
}

// cloud notes a call that was or will be made. The grant under which it was made ends with Clouds; a later one goes on.
func (r *Record) cloud(f Fact, now time.Time) Answer {
	if r.Ended {
		return Already
	}
	another := f.Fence == r.Fence && f.Send != r.Send // the fence was given twice
	if f.Fence == 0 || slices.Contains(r.Released, f.Fence) && !another {
		return Stale
	}
	isNew := r.doubt(Doubt{f.Fence, f.Send})
	r.rise(f, now)
	latest := f.Fence == r.Fence && f.Send == r.Send
	ends := f.Effect == Clouds && r.State == Granted && latest
	if r.State != Granted || ends {
		r.State = r.rest(now)
	}
	switch {
	case !isNew && !ends:
		return Already
	case !latest:
		return Stale
	}
	return Settled
}

// release undoes the grant of its own fence and send, and no other.
func (r *Record) release(f Fact, now time.Time) Answer {
	if r.Ended {
		return Already
	}
	if f.Fence == 0 {
		return Stale
	}
	cleared := r.settled(Doubt{f.Fence, f.Send})
	if !cleared && slices.Contains(r.Released, f.Fence) {
		return Already
	}
	r.rise(f, now)
	another := f.Fence == r.Fence && f.Send != r.Send // the fence was given twice
	if !another && !slices.Contains(r.Released, f.Fence) {
		r.Released = append(slices.Clone(r.Released), f.Fence)
		slices.Sort(r.Released)
	}
	if latest := f.Fence == r.Fence && !another; latest {
		r.NotBefore = f.NotBefore
		r.State = r.rest(now)
		return Settled
	}
	if r.State != Granted {
		r.State = r.rest(now)
	}
	return Stale
}

// Check says what Apply would do for the holder of a grant, who must name the latest fence: anybody else is Stale.
func (r *Record) Check(f Fact) Answer {
	switch {
	case !r.Known:
		return Missing
	case r.State == Spent:
		return either(r.Send == f.Send, Already, Stale)
	case f.Fence != r.Fence || f.Send != r.Send:
		return Stale
	case r.State == Void:
		return either(f.Effect == Voids, Already, Stale)
	case r.Ended:
		return Stale
	case slices.Contains(r.Released, f.Fence):
		return either(f.Effect == Releases, Already, Stale)
	case r.State != Granted && f.Effect == Clouds && slices.Contains(r.Unclear, Doubt{f.Fence, f.Send}):
		return Already
	}
	return Settled // also when the lease is over and the permission has lapsed: that it was used counts
}

func either(first bool, a, b Answer) Answer {
	if first {
		return a
	}
	return b
}
