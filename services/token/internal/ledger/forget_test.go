package ledger_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onebell/onebell/pkg/testkit"
	"github.com/onebell/onebell/proto/ids"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/token/internal/ledger"
)

// mark is a mark of a person at a sequence of every stream.
func (b book) mark(psid string, seq uint64) ledger.Mark {
	return ledger.Mark{PageID: page, Shard: ids.Shard(psid), Name: b.Names(page, psid)[0], Upto: map[string]uint64{
		topology.People: seq, topology.Optins: seq, topology.Events: seq, topology.Outcomes: seq,
	}}
}

func (b book) forget(m ledger.Mark, psid string, want int64) {
	b.t.Helper()
	if n, err := b.Forget(b.t.Context(), m, psid); err != nil || n != want {
		b.t.Errorf("forget: %d, %v, want %d", n, err, want)
	}
}

// keys are all keys but those of marks, epoch and pages.
func (b book) keys() []string {
	b.t.Helper()
	all, err := b.rdb.Keys(b.t.Context(), "{"+page+"*").Result()
	if err != nil {
		b.t.Fatal(err)
	}
	slices.Sort(all)
	return slices.DeleteFunc(all, func(k string) bool { return strings.HasSuffix(k, ":f") })
}

func TestForgettingEmptiesTheShard(t *testing.T) {
	onBoth(t, func(t *testing.T, b book) {
		now := time.Now()
		optin := ledger.Optin{PageID: page, PSID: "1", Token: "t1", Topic: "stock:A", OptedInAt: now, ExpiresAt: now.Add(30 * time.Hour), Seq: 5}
		if !b.record(optin)[0] {
			t.Fatal("not recorded")
		}
		fact := &tokenv1.PersonFact{PageId: page, Psid: "1", What: &tokenv1.PersonFact_Tagged{Tagged: &tokenv1.Tagged{Add: []string{"vip"}}}}
		if _, err := b.ApplyPerson(t.Context(), fact, 3); err != nil {
			t.Fatal(err)
		}
		b.forget(b.mark("1", 5), "1", 1)
		b.forget(b.mark("1", 4), "1", 0) // an older mark changes nothing
		// The list of the day stays until the day is over, without the person's entry.
		if left := b.keys(); len(left) != 2 || !strings.Contains(left[1], ":x:") {
			t.Errorf("left: %q", left)
		}
		if counts, err := b.Expiring(t.Context(), page, 48*time.Hour); err != nil || len(counts) != 0 {
			t.Errorf("expiring %v, %v", counts, err)
		}
		if b.record(optin)[0] {
			t.Error("an opt-in from before the mark is recorded")
		}
		if forgotten, err := b.Forgotten(t.Context(), topology.Events, []ledger.Fact{{page, "1", 5}, {page, "1", 6}, {page, "2", 1}}); err != nil || !slices.Equal(forgotten, []bool{true, false, false}) {
			t.Errorf("forgotten: %v, %v", forgotten, err)
		}
		if optin.Seq = 6; !b.record(optin)[0] {
			t.Error("a later opt-in is not recorded")
		}
		b.counts("stock:A", 1, 0, 0, 0, 0, 0, 0)
	})
}

func TestAMarkFromTheStreamFindsItsPerson(t *testing.T) {
	onBoth(t, func(t *testing.T, b book) {
		now := time.Now()
		var marks []ledger.Mark
		for i := range 40 {
			psid := fmt.Sprint("p", i)
			b.record(ledger.Optin{PageID: page, PSID: psid, Token: psid, Topic: "stock:A", OptedInAt: now, ExpiresAt: now.Add(time.Hour), Seq: uint64(i + 1)})
			if i%2 == 0 {
				marks = append(marks, b.mark(psid, 100))
			}
		}
		marks = append(marks, b.mark("nobody", 100))
		want := 20
		for range 2 {
			found, err := b.EraseMarked(t.Context(), marks)
			if err != nil {
				t.Fatal(err)
			}
			people := map[string]bool{}
			for _, f := range found {
				people[f.PSID] = true
			}
			if len(people) != want {
				t.Errorf("found %d people, want %d", len(people), want)
			}
			want = 0 // the second time they are known to be done
			if err := b.SetMarks(t.Context(), marks); err != nil {
				t.Fatal(err)
			}
			b.counts("stock:A", 20, 0, 0, 0, 0, 0, 0)
		}
		for _, m := range marks {
			if done, err := b.Marked(t.Context(), m); err != nil || !done {
				t.Errorf("marked: %v, %v", done, err)
			}
		}
	})
}

func TestOnlyWhatHasLapsedExpires(t *testing.T) {
	onBoth(t, func(t *testing.T, b book) {
		now := time.Now()
		lapsing := func(psid string, in time.Duration) string {
			o := ledger.Optin{PageID: page, PSID: psid, Token: psid, Topic: "stock:A", OptedInAt: now.Add(-time.Hour), ExpiresAt: now.Add(in), Seq: 1}
			b.record(o)
			return o.ID()
		}
		soon, later, spent, held := lapsing("1", 3*time.Second), lapsing("2", time.Hour), lapsing("3", 3*time.Second), lapsing("4", 3*time.Second)
		for _, id := range []string{spent, held} {
			g := b.granted(id, "send-"+id)
			if id == spent {
				b.apply(ledger.Settled, ledger.Settlement{PermissionID: id, SendID: "send-" + id, Fence: g.GetFence(), Effect: ledger.Spend})
			}
		}
		var listed []string
		days, err := b.Days(t.Context(), page, now.Add(-time.Hour), now.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range days {
			some, next, err := b.Lapses(t.Context(), d, 0)
			if err != nil || next != int64(19*len(some)) {
				t.Errorf("lapses: %v, %d, %v", some, next, err)
			}
			for _, e := range some {
				listed = append(listed, e.PermissionID)
			}
		}
		all := []string{soon, later, spent, held}
		slices.Sort(listed)
		if want := slices.Sorted(slices.Values(all)); !slices.Equal(listed, want) {
			t.Errorf("listed %v, want %v", listed, want)
		}
		total := 0
		testkit.Eventually(t, "one is moved", func() bool {
			moved, _, err := b.Expire(t.Context(), page, all)
			total += moved
			return err == nil && total > 0
		})
		if moved, waiting, err := b.Expire(t.Context(), page, all); err != nil || total != 1 || moved != 0 || waiting != 2 {
			t.Errorf("moved %d, then %d, %d wait, %v", total, moved, waiting, err)
		}
		b.counts("stock:A", 1, 1, 0, 1, 1, 0, 0)
	})
}
