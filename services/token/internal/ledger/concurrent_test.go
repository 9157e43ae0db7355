package ledger_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/redis/go-redis/v9"

	"github.com/onebell/onebell/pkg/testkit"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/services/token/internal/ledger"
	"github.com/onebell/onebell/services/token/internal/permission"
)

// call is one call of the ledger, and answer what it said.
type call struct {
	what string // record, grant, apply, check, get
	send string
	fact permission.Fact
}

type answer struct {
	recorded bool
	granted  permission.Grant
	denied   permission.Denial
	settled  permission.Answer
	state    permission.State // 0: there is none
	holder   string
	message  string
}

// life is the specification: one permission that takes one call at a time. No time passes in it.
var life = porcupine.Model{
	Init:  func() any { return permission.Record{} },
	Equal: func(a, b any) bool { return reflect.DeepEqual(a, b) },
	Step: func(state, input, output any) (bool, any) {
		p, in, want := state.(permission.Record), input.(call), answer{}
		now := time.Time{}
		switch in.what {
		case "record":
			want.recorded = p.Optin("stock:A", now.Add(time.Hour), false, now)
		case "grant":
			want.granted, want.denied = p.Grant(in.send, "stock:A", false, time.Minute, now)
			want.granted.Until = time.Time{}
		case "apply":
			want.settled = p.Apply(in.fact, now)
		case "check":
			want.settled = p.Check(in.fact)
		case "get":
			if p.Known {
				want.state, want.holder, want.message = p.State, p.Holder(), p.MessageID
			}
		}
		return output.(answer) == want, p
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v: %+v", input, output) },
}

// make makes a call on the ledger.
func (b book) make(o ledger.Optin, c call) answer {
	b.t.Helper()
	var a answer
	id := o.ID()
	all := []ledger.Settlement{{
		PageID: page, PermissionID: id, SendID: c.fact.Send, Fence: c.fact.Fence, Effect: ledger.Effect(c.fact.Effect), MessageID: c.fact.MessageID,
	}}
	var settled []ledger.Answer
	var err error
	switch c.what {
	case "record":
		a.recorded = b.record(o)[0]
	case "grant":
		r := b.grant(id, c.send, "stock:A", time.Minute)
		g := r.GetGranted()
		a.granted = permission.Grant{Fence: g.GetFence(), Again: g.GetAgain(), AfterUnknown: g.GetAfterUnknown()}
		a.denied = permission.Denial(r.GetDenied().GetReason())
	case "apply":
		settled, err = b.Apply(b.t.Context(), all)
	case "check":
		settled, err = b.Check(b.t.Context(), all)
	case "get":
		var p *tokenv1.Permission
		if p, err = b.Permission(b.t.Context(), page, id); p != nil {
			a.state, a.holder, a.message = permission.State(p.GetState()), p.GetSendId(), p.GetMessageId()
		}
	}
	if err != nil {
		b.t.Error(err)
	}
	if len(settled) > 0 {
		a.settled = permission.Answer(settled[0])
	}
	return a
}

// act makes n random calls, as one send does: it asks for the permission and says what became of it, sometimes late or wrongly.
func (b book) act(o ledger.Optin, send string, n int, random *rand.Rand, note func(call, func() answer) answer) {
	var fence uint64
	for range n {
		c := call{what: []string{"record", "grant", "grant", "grant", "apply", "apply", "apply", "check", "get", "get"}[random.IntN(10)], send: send}
		if c.what == "apply" || c.what == "check" {
			effect := effects[random.IntN(4)] // mostly such as leave it alive
			if random.IntN(12) == 0 {
				effect = effects[random.IntN(len(effects))]
			}
			c.fact = permission.Fact{Effect: effect, Send: send, Fence: fence}
			if effect == permission.Spends {
				c.fact.MessageID = "m-" + send
			}
		}
		if a := note(c, func() answer { return b.make(o, c) }); a.granted.Fence > 0 {
			fence = a.granted.Fence
		}
	}
}

// Whatever concurrent callers are told about a permission, one order of their calls, one after the other, explains it.
func TestConcurrentCallsAreAsIfOneAfterTheOther(t *testing.T) {
	onBoth(t, func(t *testing.T, b book) {
		seed := rand.Uint64()
		for n := range 40 {
			now := time.Now()
			o := ledger.Optin{PageID: page, PSID: "1", Token: fmt.Sprint("token-", n), Topic: "stock:A", OptedInAt: now, ExpiresAt: now.Add(time.Hour)}
			var mu sync.Mutex
			var history []porcupine.Operation
			var wg sync.WaitGroup
			for client := range 4 {
				note := func(c call, run func() answer) answer {
					begun := time.Since(now)
					a := run()
					mu.Lock()
					defer mu.Unlock()
					history = append(history, porcupine.Operation{ClientId: client, Input: c, Call: int64(begun), Output: a, Return: int64(time.Since(now))})
					return a
				}
				random := rand.New(rand.NewPCG(seed, uint64(n*8+client))) //nolint:gosec // no secret, no overflow
				wg.Go(func() { b.act(o, fmt.Sprint("send-", client), 12, random, note) })
			}
			wg.Wait()
			if got := porcupine.CheckOperationsTimeout(life, history, 20*time.Second); got != porcupine.Ok {
				for _, op := range history {
					t.Logf("%d: %d-%d %s", op.ClientId, op.Call, op.Return, life.DescribeOperation(op.Input, op.Output))
				}
				t.Fatalf("seed %d, permission %d: %v", seed, n, got)
			}
		}
	})
}

// 64 callers race for each of many permissions, in batches: each permission is granted to one of them.
func TestOf64CallersOneIsGranted(t *testing.T) {
	t.Parallel()
	for name, server := range map[string]struct {
		start    func(testing.TB) (string, redis.UniversalClient)
		n, batch int
	}{"redis-server": {testkit.Redis, 1000, 50}, "stand-in": {testkit.StandIn, 20, 4}} { // the stand-in is ten times slower
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, rdb := server.start(t)
			b := book{t, ledger.New(rdb, newKeys(t)), rdb}
			now := time.Now()
			optins := make([]ledger.Optin, server.n)
			for i := range optins {
				optins[i] = ledger.Optin{
					PageID: page, PSID: fmt.Sprint(i), Token: fmt.Sprint(i), Topic: "stock:A", OptedInAt: now, ExpiresAt: now.Add(time.Hour),
				}
			}
			b.record(optins...)
			var mu sync.Mutex
			granted := map[string]int{}
			var wg sync.WaitGroup
			for caller := range 64 {
				wg.Go(func() {
					for first := 0; first < server.n; first += server.batch {
						items := make([]*tokenv1.GrantItem, server.batch)
						for i := range items {
							items[i] = &tokenv1.GrantItem{PageId: page, PermissionId: optins[first+i].ID(), SendId: fmt.Sprint("send-", caller), Topic: "stock:A"}
						}
						results, err := b.Grant(t.Context(), items)
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						for _, r := range results {
							if r.GetGranted() != nil {
								granted[r.GetPermissionId()]++
							} else if r.GetDenied().GetReason() != tokenv1.DenialReason_DENIAL_REASON_LEASED {
								t.Errorf("denied: %v", r.GetDenied())
							}
						}
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			for id, n := range granted {
				if n != 1 {
					t.Errorf("%s was granted to %d", id, n)
				}
			}
			if len(granted) != server.n {
				t.Errorf("%d of %d were granted", len(granted), server.n)
			}
			b.counts("stock:A", 0, int64(server.n), 0, 0, 0, 0, 0)
		})
	}
}
