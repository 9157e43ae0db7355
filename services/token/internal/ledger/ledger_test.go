package ledger_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/onebell/onebell/pkg/testkit"
	"github.com/onebell/onebell/proto/ids"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/services/token/internal/ledger"
	"github.com/onebell/onebell/services/token/internal/seal"
)

const page = "104200000000017"

// onBoth runs a story against a real redis-server and against the stand-in.
func onBoth(t *testing.T, story func(t *testing.T, b book)) {
	t.Helper()
	t.Parallel()
	for name, start := range map[string]func(testing.TB) (string, redis.UniversalClient){"redis-server": testkit.Redis, "stand-in": testkit.StandIn} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, rdb := start(t)
			story(t, book{t, ledger.New(rdb, newKeys(t)), rdb})
		})
	}
}

func newKeys(t *testing.T) *seal.Keys {
	var keys seal.Keys
	if err := keys.UnmarshalText([]byte(base64.StdEncoding.EncodeToString(make([]byte, 32)))); err != nil {
		t.Fatal(err)
	}
	return &keys
}

// book is a ledger with the words of the stories.
type book struct {
	t *testing.T
	*ledger.Ledger
	rdb redis.UniversalClient
}

func (b book) optin(psid, token, topic string) string {
	b.t.Helper()
	now := time.Now()
	o := ledger.Optin{PageID: page, PSID: psid, Token: token, Topic: topic, OptedInAt: now, ExpiresAt: now.Add(time.Hour)}
	b.record(o)
	return o.ID()
}

func (b book) record(optins ...ledger.Optin) []bool {
	b.t.Helper()
	recorded, err := b.Record(b.t.Context(), optins)
	if err != nil {
		b.t.Fatal(err)
	}
	return recorded
}

func (b book) grant(id, send, topic string, lease time.Duration) *tokenv1.GrantResult {
	b.t.Helper()
	results, err := b.Grant(b.t.Context(), []*tokenv1.GrantItem{{PageId: page, PermissionId: id, SendId: send, Topic: topic, Lease: durationpb.New(lease)}})
	if err != nil {
		b.t.Fatal(err)
	}
	return results[0]
}

func (b book) granted(id, send string) *tokenv1.Granted {
	b.t.Helper()
	r := b.grant(id, send, "stock:A", time.Minute)
	if r.GetGranted() == nil {
		b.t.Fatalf("grant of %s to %s: %v", id, send, r.GetDenied().GetReason())
	}
	return r.GetGranted()
}

func (b book) denied(id, send, topic string, want tokenv1.DenialReason) {
	b.t.Helper()
	if r := b.grant(id, send, topic, time.Minute); r.GetDenied().GetReason() != want {
		b.t.Errorf("grant of %s to %s: %v, want %v", id, send, r.GetResult(), want)
	}
}

func (b book) apply(want ledger.Answer, s ledger.Settlement) {
	b.t.Helper()
	s.PageID = page
	got, err := b.Apply(b.t.Context(), []ledger.Settlement{s})
	if err != nil || got[0] != want {
		b.t.Errorf("%s of fence %d: %v, %v, want %s", s.Effect, s.Fence, got, err, want)
	}
}

func (b book) state(id string) tokenv1.PermissionState {
	b.t.Helper()
	p, err := b.Permission(b.t.Context(), page, id)
	if err != nil {
		b.t.Fatal(err)
	}
	return p.GetState()
}

// counts is waiting, granted, unknown, spent, expired, revoked, void of the topic.
func (b book) counts(topic string, want ...int64) {
	b.t.Helper()
	all, err := b.Count(b.t.Context(), page, topic)
	if err != nil {
		b.t.Fatal(err)
	}
	c := all[0]
	if got := []int64{c.GetWaiting(), c.GetGranted(), c.GetUnknown(), c.GetSpent(), c.GetExpired(), c.GetRevoked(), c.GetVoid()}; !slices.Equal(got, want) {
		b.t.Errorf("counts of %s = %v, want %v", topic, got, want)
	}
}

func TestOneOptinIsGrantedAndSpentOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, b book) {
		id := b.optin("1", "token-1", "stock:A")
		if again := b.record(ledger.Optin{PageID: page, PSID: "1", Token: "token-1", Topic: "stock:B"}); again[0] {
			t.Error("recorded twice")
		}
		b.counts("stock:A", 1, 0, 0, 0, 0, 0, 0)
		g := b.granted(id, "send-1")
		if g.GetRecipientToken() != "token-1" || g.GetPsid() != "1" || g.GetFence() != 1 || g.GetAgain() || g.GetAfterUnknown() {
			t.Errorf("granted %v", g)
		}
		b.denied(id, "send-2", "stock:A", tokenv1.DenialReason_DENIAL_REASON_LEASED)
		if g := b.granted(id, "send-1"); !g.GetAgain() || g.GetFence() != 2 {
			t.Errorf("again: %v", g)
		}
		b.apply(ledger.Stale, ledger.Settlement{PermissionID: id, SendID: "send-1", Fence: 1, Effect: ledger.Release})
		b.counts("stock:A", 0, 1, 0, 0, 0, 0, 0)
		b.apply(ledger.Settled, ledger.Settlement{PermissionID: id, SendID: "send-1", Fence: 2, Effect: ledger.Spend, MessageID: "m1"})
		b.apply(ledger.Already, ledger.Settlement{PermissionID: id, SendID: "send-1", Fence: 2, Effect: ledger.Spend, MessageID: "m1"})
		b.apply(ledger.Already, ledger.Settlement{PermissionID: id, SendID: "send-1", Fence: 2, Effect: ledger.Release})
		b.counts("stock:A", 0, 0, 0, 1, 0, 0, 0)
		b.denied(id, "send-1", "stock:A", tokenv1.DenialReason_DENIAL_REASON_ALREADY_SPENT)
	})
}

func TestWhyAGrantIsDenied(t *testing.T) {
	onBoth(t, func(t *testing.T, b book) {
		id := b.optin("1", "token-1", "stock:A")
		b.denied("nonsense", "s", "stock:A", tokenv1.DenialReason_DENIAL_REASON_UNKNOWN_PERMISSION)
		b.denied(ids.Permission(page, "1", "never seen"), "s", "stock:A", tokenv1.DenialReason_DENIAL_REASON_UNKNOWN_PERMISSION)
		b.denied(id, "s", "stock:B", tokenv1.DenialReason_DENIAL_REASON_TOPIC_MISMATCH)
		old := ledger.Optin{PageID: page, PSID: "2", Token: "token-2", Topic: "stock:A", OptedInAt: time.Now(), ExpiresAt: time.Now().Add(20 * time.Millisecond)}
		b.record(old)
		testkit.Eventually(t, "the permission lapses", func() bool {
			return b.grant(old.ID(), "s", "stock:B", time.Minute).GetDenied() != nil && time.Now().After(old.ExpiresAt)
		})
		b.denied(old.ID(), "s", "stock:A", tokenv1.DenialReason_DENIAL_REASON_EXPIRED)
		b.counts("stock:A", 1, 0, 0, 0, 1, 0, 0)

		g := b.granted(id, "s")
		b.apply(ledger.Settled, ledger.Settlement{PermissionID: id, SendID: "s", Fence: g.GetFence(), Effect: ledger.Release, NotBefore: time.Now().Add(time.Hour)})
		b.denied(id, "other", "stock:A", tokenv1.DenialReason_DENIAL_REASON_NOT_YET)
		if list, _, err := b.List(t.Context(), page, "stock:A", false, "", 10); err != nil || len(list) != 0 {
			t.Errorf("a parked permission is listed: %v, %v", list, err)
		}

		void := b.optin("3", "token-3", "stock:A")
		g = b.granted(void, "s")
		b.apply(ledger.Settled, ledger.Settlement{PermissionID: void, SendID: "s", Fence: g.GetFence(), Effect: ledger.Void})
		b.denied(void, "s", "stock:A", tokenv1.DenialReason_DENIAL_REASON_REVOKED)
	})
}

func TestAnUnclearTryBindsThePermissionToItsSend(t *testing.T) {
	onBoth(t, func(t *testing.T, b book) {
		id := b.optin("1", "token-1", "stock:A")
		g := b.granted(id, "s1")
		b.apply(ledger.Settled, ledger.Settlement{PermissionID: id, SendID: "s1", Fence: g.GetFence(), Effect: ledger.Cloud})
		b.denied(id, "s2", "stock:A", tokenv1.DenialReason_DENIAL_REASON_LEASED)
		g = b.granted(id, "s1")
		if !g.GetAgain() || !g.GetAfterUnknown() {
			t.Errorf("granted %v, want again and after unknown", g)
		}
		// It is certain that the second call did not go out; of the first nothing is known yet.
		b.apply(ledger.Settled, ledger.Settlement{PermissionID: id, SendID: "s1", Fence: g.GetFence(), Effect: ledger.Release})
		b.counts("stock:A", 0, 0, 1, 0, 0, 0, 0)
		b.apply(ledger.Settled, ledger.Settlement{PermissionID: id, SendID: "s1", Fence: 1, Effect: ledger.Spend})
		b.counts("stock:A", 0, 0, 0, 1, 0, 0, 0)
	})
}

func TestALeaseThatRanOutIsGrantedWithAMark(t *testing.T) {
	onBoth(t, func(t *testing.T, b book) {
		id := b.optin("1", "token-1", "stock:A")
		if b.grant(id, "s1", "stock:A", time.Millisecond).GetGranted() == nil {
			t.Fatal("not granted")
		}
		var g *tokenv1.Granted
		testkit.Eventually(t, "another send is granted", func() bool {
			g = b.grant(id, "s2", "stock:A", time.Minute).GetGranted()
			return g != nil
		})
		if !g.GetAfterUnknown() || g.GetAgain() || g.GetFence() != 2 {
			t.Errorf("granted %v", g)
		}
	})
}

func TestAStoppedPersonIsToldNothingUntilResumed(t *testing.T) {
	onBoth(t, func(t *testing.T, b book) {
		ctx := t.Context()
		one, two := b.optin("1", "token-1", "stock:A"), b.optin("1", "token-2", "stock:A")
		g := b.granted(two, "s")
		stop := &tokenv1.PersonFact{PageId: page, Psid: "1", What: &tokenv1.PersonFact_Stopped{}}
		resume := &tokenv1.PersonFact{PageId: page, Psid: "1", What: &tokenv1.PersonFact_Resumed{}}
		if n, err := b.ApplyPerson(ctx, stop, 7); err != nil || n != 1 {
			t.Errorf("stop: %d, %v", n, err)
		}
		three := b.optin("1", "token-3", "stock:A")
		for _, id := range []string{one, two, three} {
			b.denied(id, "s", "stock:A", tokenv1.DenialReason_DENIAL_REASON_PERSON_STOPPED)
		}
		b.apply(ledger.Settled, ledger.Settlement{PermissionID: two, SendID: "s", Fence: g.GetFence(), Effect: ledger.Release})
		b.counts("stock:A", 0, 0, 0, 0, 0, 3, 0)
		if n, err := b.ApplyPerson(ctx, resume, 5); err != nil || n != 0 {
			t.Errorf("an older fact read late: %d, %v", n, err)
		}
		if n, err := b.ApplyPerson(ctx, resume, 8); err != nil || n != 3 {
			t.Errorf("resume: %d, %v", n, err)
		}
		b.counts("stock:A", 3, 0, 0, 0, 0, 0, 0)
		b.granted(three, "s")
	})
}

func TestTagsHoldTheLatestWord(t *testing.T) {
	onBoth(t, func(t *testing.T, b book) {
		tag := func(seq uint64, add, remove []string) {
			if _, err := b.ApplyPerson(t.Context(), &tokenv1.PersonFact{
				PageId: page, Psid: "1", What: &tokenv1.PersonFact_Tagged{Tagged: &tokenv1.Tagged{Add: add, Remove: remove}},
			}, seq); err != nil {
				t.Fatal(err)
			}
		}
		tag(3, []string{"b", "c"}, nil)
		tag(9, nil, []string{"c"})
		tag(4, []string{"a", "c"}, nil)
		p, err := b.Person(t.Context(), page, "1")
		if err != nil || !slices.Equal(p.GetTags(), []string{"a", "b"}) {
			t.Errorf("tags %v, %v", p.GetTags(), err)
		}
	})
}

func TestTheWaitingAreListedInGlobalOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, b book) {
		const n = 300
		begin := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
		var want []string
		var optins []ledger.Optin
		for i := range n {
			// Many at the same moment: order then falls to the id, and no chunk may lose one.
			o := ledger.Optin{
				PageID: page, PSID: fmt.Sprint("p", i), Token: fmt.Sprint("t", i), Topic: "stock:A",
				OptedInAt: begin.Add(time.Duration(i/100) * time.Second), ExpiresAt: begin.Add(24 * time.Hour),
			}
			optins, want = append(optins, o), append(want, fmt.Sprintf("%013d %s", o.OptedInAt.UnixMilli(), o.ID()))
		}
		b.record(optins...)
		slices.Sort(want)
		for _, newest := range []bool{false, true} {
			var got []string
			cursor := ""
			for {
				list, next, err := b.List(t.Context(), page, "stock:A", newest, cursor, 7)
				if err != nil {
					t.Fatal(err)
				}
				for _, w := range list {
					got = append(got, fmt.Sprintf("%013d %s", w.Permission.GetOptedInAt().AsTime().UnixMilli(), w.Permission.GetPermissionId()))
					if w.Person.GetPsid() != w.Permission.GetPsid() {
						t.Errorf("person %q of %v", w.Person.GetPsid(), w.Permission)
					}
				}
				if cursor = next; cursor == "" {
					break
				}
			}
			if newest {
				slices.Reverse(got)
			}
			if !slices.Equal(got, want) {
				t.Errorf("newest %v: %d listed, not the %d in order", newest, len(got), n)
			}
		}
	})
}

func TestOfManyConcurrentGrantsOneIsGranted(t *testing.T) {
	onBoth(t, func(t *testing.T, b book) {
		for round := range 20 {
			id := b.optin("1", fmt.Sprint("token", round), "stock:A")
			var mu sync.Mutex
			granted := 0
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					if b.grant(id, fmt.Sprint("send", i), "stock:A", time.Minute).GetGranted() != nil {
						mu.Lock()
						defer mu.Unlock()
						granted++
					}
				})
			}
			wg.Wait()
			if granted != 1 {
				t.Fatalf("round %d: %d granted", round, granted)
			}
		}
	})
}

// Facts read in any order make the same permission.
func TestFactsInAnyOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, b book) {
		stories := map[string]struct {
			facts []ledger.Settlement
			want  tokenv1.PermissionState
		}{
			"sent":                  {[]ledger.Settlement{{Effect: ledger.Try, Fence: 1}, {Effect: ledger.Spend, Fence: 1}}, tokenv1.PermissionState_PERMISSION_STATE_SPENT},
			"tried, nothing known":  {[]ledger.Settlement{{Effect: ledger.Try, Fence: 1}}, tokenv1.PermissionState_PERMISSION_STATE_UNKNOWN},
			"tried and released":    {[]ledger.Settlement{{Effect: ledger.Try, Fence: 1}, {Effect: ledger.Release, Fence: 1}}, tokenv1.PermissionState_PERMISSION_STATE_WAITING},
			"unclear, then sent":    {[]ledger.Settlement{{Effect: ledger.Cloud, Fence: 1}, {Effect: ledger.Spend, Fence: 2}}, tokenv1.PermissionState_PERMISSION_STATE_SPENT},
			"released, then void":   {[]ledger.Settlement{{Effect: ledger.Release, Fence: 1}, {Effect: ledger.Void, Fence: 2}}, tokenv1.PermissionState_PERMISSION_STATE_VOID},
			"two releases":          {[]ledger.Settlement{{Effect: ledger.Release, Fence: 1}, {Effect: ledger.Release, Fence: 2}}, tokenv1.PermissionState_PERMISSION_STATE_WAITING},
			"void, but it was sent": {[]ledger.Settlement{{Effect: ledger.Spend, Fence: 1}, {Effect: ledger.Void, Fence: 2}}, tokenv1.PermissionState_PERMISSION_STATE_SPENT},
		}
		n := 0
		for name, story := range stories {
			for order, facts := range permutations(story.facts) {
				for first := range []bool{true, false} { // the opt-in before or after
					n++
					now := time.Now()
					o := ledger.Optin{PageID: page, PSID: "1", Token: fmt.Sprint("t", n), Topic: fmt.Sprint("stock:", n), OptedInAt: now, ExpiresAt: now.Add(time.Hour)}
					if first == 0 {
						b.record(o)
					}
					for _, f := range facts {
						f.PageID, f.PermissionID, f.SendID = page, o.ID(), "s"
						if _, err := b.Apply(t.Context(), []ledger.Settlement{f}); err != nil {
							t.Fatal(err)
						}
					}
					b.record(o)
					if got := b.state(o.ID()); got != story.want {
						t.Errorf("%s, order %d, opt-in %d: %v, want %v", name, order, first, got, story.want)
					}
					list, _, err := b.List(t.Context(), page, o.Topic, false, "", 2)
					if waits := story.want == tokenv1.PermissionState_PERMISSION_STATE_WAITING; err != nil || waits != (len(list) == 1) {
						t.Errorf("%s, order %d, opt-in %d: listed %d, %v", name, order, first, len(list), err)
					}
				}
			}
		}
	})
}

func permutations(facts []ledger.Settlement) [][]ledger.Settlement {
	if len(facts) < 2 {
		return [][]ledger.Settlement{facts}
	}
	return [][]ledger.Settlement{facts, {facts[1], facts[0]}}
}

func TestScriptsAreLoadedAgainWhenRedisForgetsThem(t *testing.T) {
	t.Parallel()
	_, rdb := testkit.Redis(t)
	b := book{t, ledger.New(rdb, newKeys(t)), rdb}
	id := b.optin("1", "token-1", "stock:A")
	if err := rdb.ScriptFlush(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
	b.granted(id, "s")
}
