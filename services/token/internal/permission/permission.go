// Package permission is the life of a permission as a pure rule: what each move answers and what it makes of the record. It is
// the readable truth about the scripts of package ledger, which are held against it move by move; it stores nothing, reads no
// clock, and nothing in the running service calls it.
//
// # The life
//
//	          ┌──────────── released (certain that nothing was sent) ─────────┐
//	          ▼                                                               │
//	opt-in ─▶ waiting ──grant──▶ granted(send, fence, until) ──spent──▶ spent
//	          │                     │   ▲                                     ▲
//	          │                     │   └── grant again, same send: new fence │
//	          │                     └──unclear──▶ unknown ──echo, late reply──┘
//	          └─ expired / revoked (person stopped) / void (platform says invalid)
//
// # Fences
//
// Each grant of a permission has a number, its fence; a later grant has a higher one. Of every fence the record knows one of
// four things:
//
//   - it is in force: the highest fence of a granted permission;
//   - it is unclear: its call was about to be made (Tries) or was made with a result nobody knows (Clouds), and nothing is
//     settled yet. While there is an unclear fence and no grant in force, the permission is unknown until it lapses, and held by the send whose
//     unclear fence is the highest: only that send may repeat the call, with the same token, which the platform takes once;
//   - it is released: certain that nothing was sent under it. Nothing that is said of this fence later counts;
//   - none of these: its lease ran out, or the same send was granted again, and nothing was heard of it. That alone does not
//     keep the permission from waiting again, but the next grant says AfterUnknown: an answer "invalid token" may mean that
//     the message was sent long ago. (A sender that writes its tries makes such a fence unclear before it calls.)
//
// Fences are never given twice while Redis keeps what it was told. When it has lost its last grants the highest one may be
// given again, to another send; then every fact counts only for the grant of its own send.
//
// # The end
//
// Spent, void, and expired by an outcome are final, and of two of them the one named first stays. A permission that has
// lapsed without an outcome becomes expired when a move finds it so and no lease runs; what is said of its fences is still
// noted, and a late word that it was used still counts.
//
// # What does not depend on the order of facts
//
// The facts (opt-in, tries, outcomes, stops and resumes with their sequence) make the same record in whatever order they are
// applied and however often, so that streams may be read in any order and by many workers. That holds for the state, the send
// and message shown, the time it is parked until, and for what is known of each fence, with these limits:
//
//   - a grant is no fact. A rebuild restores a grant whose try was written as unknown, others as if they had not been given:
//     as waiting, with fences going on from the highest that any fact names;
//   - time is no fact either: a lapsed permission is found so by the moves named above, at the latest when it is asked for;
//   - outcomes of the same kind for one and the same fence but with different contents (no writer makes them): the first stays;
//   - a fence given to two sends: only when it is the highest do both keep what is known of them.
package permission

import (
	"slices"
	"strings"
	"time"
)

// State is where a permission stands.
type State int

// The states, as onebell.token.v1.PermissionState numbers them.
const (
	Waiting State = iota + 1
	Granted
	Unknown
	Spent
	Expired
	Revoked
	Void
)

// Denial is why a grant was refused. Of several the first in the order of Record.Grant is told.
type Denial int

// The denials, as onebell.token.v1.DenialReason numbers them.
const (
	UnknownPermission Denial = iota + 1
	AlreadySpent
	HasExpired
	WasRevoked
	Leased
	TopicMismatch
	PersonStopped
	PagePaused
	NotYet
)

// Doubt is a call under a fence whose result is not known.
type Doubt struct {
	Fence uint64
	Send  string
}

// Record is what is known of one permission. The zero value is that of one never heard of.
type Record struct {
	Known     bool // the opt-in is read; else only facts about it are known
	Topic     string
	Lapses    time.Time // from then on it cannot be used
	Stopped   bool      // its person is stopped
	State     State     // zero counts as Waiting
	Fence     uint64    // the highest heard of; of the outcome that ended the permission
	Send      string    // that of Fence
	Until     time.Time // Granted: end of the lease
	NotBefore time.Time // parked until; zero: not
	MessageID string
	Ended     bool    // by an outcome: spent, void or expired
	Told      uint64  // Ended: the fence of that outcome
	Unclear   []Doubt // sorted by fence, then send
	Released  []uint64
}

// Holder is the send that holds or used the permission: of an unknown one that of its latest unclear try.
func (r *Record) Holder() string {
	if r.State == Unknown && len(r.Unclear) > 0 {
		return r.Unclear[len(r.Unclear)-1].Send
	}
	return r.Send
}

// Optin reads the opt-in; false when it was read before. stopped: its person is stopped now.
func (r *Record) Optin(topic string, lapses time.Time, stopped bool, now time.Time) (recorded bool) {
	if r.Known {
		return false
	}
	r.Known, r.Topic, r.Lapses, r.Stopped = true, topic, lapses, stopped
	if !r.Ended {
		r.State = r.rest(now)
	}
	return true
}

// rest is the state when no outcome has ended the permission and no grant is in force.
func (r *Record) rest(now time.Time) State {
	switch {
	case r.lapsed(now):
		return Expired
	case len(r.Unclear) > 0:
		return Unknown
	case r.Stopped:
		return Revoked
	}
	return Waiting
}

func (r *Record) lapsed(now time.Time) bool { return r.Known && !now.Before(r.Lapses) }

// running tells whether the lease of a grant runs.
func (r *Record) running(now time.Time) bool { return r.State == Granted && now.Before(r.Until) }

// Grant is the answer to a granted send.
type Grant struct {
	Fence        uint64
	Until        time.Time // end of the lease
	Again        bool      // to the send that held it already
	AfterUnknown bool      // a call under an earlier fence may have been made
}

// Grant gives a send the right to use the permission until its lease ends; else the reason why not. paused: its page is.
func (r *Record) Grant(send, topic string, paused bool, lease time.Duration, now time.Time) (Grant, Denial) {
	switch {
	case !r.Known:
		return Grant{}, UnknownPermission
	case r.Stopped:
		return Grant{}, PersonStopped
	case topic != r.Topic:
		return Grant{}, TopicMismatch
	case r.State == Spent:
		return Grant{}, AlreadySpent
	case r.State == Revoked, r.State == Void:
		return Grant{}, WasRevoked
	case r.State == Expired:
		return Grant{}, HasExpired
	case r.lapsed(now):
		r.Sweep(now)
		return Grant{}, HasExpired
	case paused:
		return Grant{}, PagePaused
	case now.Before(r.NotBefore):
		return Grant{}, NotYet
	}
	var g Grant
	switch r.State {
	case Unknown:
		if send != r.Holder() {
			return Grant{}, Leased
		}
		g.Again, g.AfterUnknown = true, true
	case Granted:
		if send != r.Send && r.running(now) {
			return Grant{}, Leased
		}
		g.Again, g.AfterUnknown = send == r.Send, !r.running(now) || len(r.Unclear) > 0 || !r.clear(r.Fence-1)
	default:
		g.AfterUnknown = !r.clear(r.Fence)
	}
	r.State, r.Send, r.NotBefore = Granted, send, time.Time{}
	r.Fence++
	r.Until = now.Add(lease)
	g.Fence, g.Until = r.Fence, r.Until
	return g, 0
}

// clear tells whether every fence up to n is released.
func (r *Record) clear(n uint64) bool { return uint64(len(r.Released)) == n }

// Sweep makes a lapsed permission expired, unless a lease runs; true when it did.
func (r *Record) Sweep(now time.Time) (moved bool) {
	if r.State == Spent || r.State == Void || r.State == Expired || !r.lapsed(now) || r.running(now) {
		return false
	}
	r.State = Expired
	return true
}

// Stop marks the permission of a person who asked for no more messages; true when it was waiting and is revoked now.
func (r *Record) Stop(now time.Time) (changed bool) {
	r.Stopped = true
	if r.State != Waiting {
		return false
	}
	r.State = r.rest(now)
	return r.State == Revoked
}

// Resume takes the mark of Stop away; true when the permission was revoked and waits now.
func (r *Record) Resume(now time.Time) (changed bool) {
	r.Stopped = false
	if r.State != Revoked {
		return false
	}
	r.State = r.rest(now)
	return r.State == Waiting
}

func (d Doubt) compare(other Doubt) int {
	if d.Fence != other.Fence {
		if d.Fence < other.Fence {
			return -1
		}
		return 1
	}
	return strings.Compare(d.Send, other.Send)
}

// doubt adds a try; false when it was known.
func (r *Record) doubt(d Doubt) bool {
	at, known := slices.BinarySearchFunc(r.Unclear, d, Doubt.compare)
	if !known {
		r.Unclear = slices.Insert(slices.Clone(r.Unclear), at, d)
	}
	return !known
}

// settled takes a try away; false when there was none.
func (r *Record) settled(d Doubt) bool {
	at, known := slices.BinarySearchFunc(r.Unclear, d, Doubt.compare)
	if known {
		r.Unclear = slices.Delete(slices.Clone(r.Unclear), at, at+1)
	}
	return known
}
