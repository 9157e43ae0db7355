package ledger_test

import (
	"fmt"
	"testing"
	"time"

	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/services/token/internal/ledger"
)

const (
	waiting = tokenv1.PermissionState_PERMISSION_STATE_WAITING
	unknown = tokenv1.PermissionState_PERMISSION_STATE_UNKNOWN
	expired = tokenv1.PermissionState_PERMISSION_STATE_EXPIRED
	revoked = tokenv1.PermissionState_PERMISSION_STATE_REVOKED
)

// Each of these went wrong once. The facts come in the given order and in the reverse one; the opt-in before them.
func TestFactsThatOnceDependedOnTheirOrder(t *testing.T) {
	later := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	stories := map[string]struct {
		facts  []ledger.Settlement
		want   tokenv1.PermissionState
		send   string
		parked bool
	}{
		"a try is not settled by the release of a later fence": {
			[]ledger.Settlement{{Effect: ledger.Try, Fence: 1, SendID: "s"}, {Effect: ledger.Release, Fence: 2, SendID: "s"}}, unknown, "s", false,
		},
		"unknown is held by the send of its unclear try, not by the one released last": {
			[]ledger.Settlement{{Effect: ledger.Cloud, Fence: 1, SendID: "s"}, {Effect: ledger.Release, Fence: 2, SendID: "s2"}}, unknown, "s", false,
		},
		"parked by an earlier release, free by a later": {
			[]ledger.Settlement{{Effect: ledger.Release, Fence: 1, SendID: "s", NotBefore: later}, {Effect: ledger.Release, Fence: 2, SendID: "s"}}, waiting, "s", false,
		},
		"parked by the latest release, with an earlier one still to come": {
			[]ledger.Settlement{
				{Effect: ledger.Try, Fence: 1, SendID: "s"},
				{Effect: ledger.Release, Fence: 2, SendID: "s", NotBefore: later},
				{Effect: ledger.Release, Fence: 1, SendID: "s"},
			}, waiting, "s", true,
		},
		"the send that was released first": {
			[]ledger.Settlement{{Effect: ledger.Release, Fence: 1, SendID: "s1"}, {Effect: ledger.Release, Fence: 2, SendID: "s2"}}, waiting, "s2", false,
		},
	}
	onBoth(t, func(t *testing.T, b book) {
		for name, story := range stories {
			for n := range 2 {
				id := b.optin("1", fmt.Sprint(name, n), "stock:A")
				for i := range story.facts {
					f := story.facts[i]
					if n == 1 {
						f = story.facts[len(story.facts)-1-i]
					}
					f.PageID, f.PermissionID = page, id
					if _, err := b.Apply(t.Context(), []ledger.Settlement{f}); err != nil {
						t.Fatal(err)
					}
				}
				p, err := b.Permission(t.Context(), page, id)
				if err != nil || p.GetState() != story.want || p.GetSendId() != story.send || (p.GetNotBefore() != nil) != story.parked {
					t.Errorf("%s, order %d: %v, %v", name, n, p, err)
				}
			}
		}
	})
}

// A send that asks twice, because the first answer was lost, and then gives the permission back, leaves it to others.
func TestGrantedTwiceAndReleasedIsWaiting(t *testing.T) {
	onBoth(t, func(t *testing.T, b book) {
		id := b.optin("1", "token-1", "stock:A")
		b.granted(id, "s1")
		g := b.granted(id, "s1")
		b.apply(ledger.Settled, ledger.Settlement{PermissionID: id, SendID: "s1", Fence: g.GetFence(), Effect: ledger.Release})
		if got := b.state(id); got != waiting {
			t.Fatalf("state %v", got)
		}
		// Of the first grant nothing was heard: whoever is next is told.
		if g := b.granted(id, "s2"); !g.GetAfterUnknown() || g.GetAgain() {
			t.Errorf("granted %v, want after unknown", g)
		}
	})
}

// The same, when the first grant's call was about to be made: it is unclear, and only its own send may go on.
func TestGrantedTwiceTriedOnceAndReleasedIsUnknown(t *testing.T) {
	onBoth(t, func(t *testing.T, b book) {
		id := b.optin("1", "token-1", "stock:A")
		b.granted(id, "s1")
		b.apply(ledger.Settled, ledger.Settlement{PermissionID: id, SendID: "s1", Fence: 1, Effect: ledger.Try})
		g := b.granted(id, "s1")
		if !g.GetAgain() || !g.GetAfterUnknown() {
			t.Errorf("granted %v, want again and after unknown", g)
		}
		b.apply(ledger.Settled, ledger.Settlement{PermissionID: id, SendID: "s1", Fence: 2, Effect: ledger.Release})
		if got := b.state(id); got != unknown {
			t.Fatalf("state %v", got)
		}
		b.denied(id, "s2", "stock:A", tokenv1.DenialReason_DENIAL_REASON_LEASED)
	})
}

// The first send's lease ran out, the second gave back: what is left is the first one's doubt, and the first may come back.
func TestADoubtIsHeldByItsOwnSend(t *testing.T) {
	onBoth(t, func(t *testing.T, b book) {
		w := newWorld(t.Context(), t, b)
		e := w.expect("1", "token-1", "stock:A", time.Now().Add(time.Hour))
		w.record(e)
		w.grant(e, "s1", "stock:A")
		w.settle(e, "try", "s1", 1)
		w.turn(e, "l")
		w.grant(e, "s2", "stock:A")
		w.settle(e, "release", "s2", 2)
		w.compare()
		if w.grant(e, "s2", "stock:A").GetGranted() != nil {
			t.Error("granted to the send that gave back")
		}
		if g := w.grant(e, "s1", "stock:A").GetGranted(); !g.GetAfterUnknown() || !g.GetAgain() {
			t.Errorf("granted %v, want again and after unknown", g)
		}
	})
}

// What a stopped person's permission is does not depend on whether the stop or the outcome was read first.
func TestAnUnclearTryOfAStoppedPerson(t *testing.T) {
	onBoth(t, func(t *testing.T, b book) {
		for order := range 2 {
			psid := fmt.Sprint("person-", order)
			id := b.optin(psid, "token", "stock:A")
			stop := func() {
				if _, err := b.ApplyPerson(t.Context(), &tokenv1.PersonFact{PageId: page, Psid: psid, What: &tokenv1.PersonFact_Stopped{}}, 7); err != nil {
					t.Fatal(err)
				}
			}
			if order == 0 {
				stop()
			}
			b.apply(ledger.Settled, ledger.Settlement{PermissionID: id, SendID: "s", Fence: 1, Effect: ledger.Cloud})
			if order == 1 {
				stop()
			}
			if got := b.state(id); got != unknown {
				t.Errorf("order %d: %v", order, got)
			}
			b.apply(ledger.Settled, ledger.Settlement{PermissionID: id, SendID: "s", Fence: 1, Effect: ledger.Release})
			if got := b.state(id); got != revoked {
				t.Errorf("order %d, released: %v", order, got)
			}
			// Said again after the stop, a release is still known.
			got, err := b.Check(t.Context(), []ledger.Settlement{{PageID: page, PermissionID: id, SendID: "s", Fence: 1, Effect: ledger.Release}})
			if err != nil || got[0] != ledger.Already {
				t.Errorf("order %d, released again: %v, %v", order, got, err)
			}
		}
	})
}

// A permission that an outcome called expired stays so when its person comes back.
func TestExpiredByAnOutcomeStaysExpired(t *testing.T) {
	onBoth(t, func(t *testing.T, b book) {
		id := b.optin("1", "token", "stock:A")
		say := func(seq uint64, fact *tokenv1.PersonFact) {
			fact.PageId, fact.Psid = page, "1"
			if _, err := b.ApplyPerson(t.Context(), fact, seq); err != nil {
				t.Fatal(err)
			}
		}
		say(1, &tokenv1.PersonFact{What: &tokenv1.PersonFact_Stopped{}})
		b.apply(ledger.Settled, ledger.Settlement{PermissionID: id, SendID: "s", Effect: ledger.Expire})
		say(2, &tokenv1.PersonFact{What: &tokenv1.PersonFact_Resumed{}})
		if got := b.state(id); got != expired {
			t.Errorf("state %v", got)
		}
		b.counts("stock:A", 0, 0, 0, 0, 1, 0, 0)
	})
}

// The reader of OUTCOMES may be faster than that of OPTINS: then the topic is not known when an outcome begins to be applied.
func TestAnOptinReadWhileItsOutcomeIsApplied(t *testing.T) {
	onBoth(t, func(t *testing.T, b book) {
		const n = 200
		done := make(chan error, 2)
		now := time.Now()
		optins, facts := make([]ledger.Optin, n), make([]ledger.Settlement, n)
		for i := range n {
			optins[i] = ledger.Optin{PageID: page, PSID: fmt.Sprint(i), Token: fmt.Sprint(i), Topic: "stock:A", OptedInAt: now, ExpiresAt: now.Add(time.Hour)}
			facts[i] = ledger.Settlement{PageID: page, PermissionID: optins[i].ID(), SendID: "s", Fence: 1, Effect: ledger.Spend}
		}
		go func() {
			var err error
			for i := 0; i < n && err == nil; i++ {
				_, err = b.Record(t.Context(), optins[i:i+1])
			}
			done <- err
		}()
		go func() {
			var err error
			for i := 0; i < n && err == nil; i++ {
				_, err = b.Apply(t.Context(), facts[i:i+1])
			}
			done <- err
		}()
		for range 2 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		b.counts("stock:A", 0, 0, 0, n, 0, 0, 0)
		if list, _, err := b.List(t.Context(), page, "stock:A", false, "", n); err != nil || len(list) > 0 {
			t.Errorf("%d spent permissions are listed, %v", len(list), err)
		}
	})
}
