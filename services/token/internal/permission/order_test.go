package permission_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/onebell/onebell/services/token/internal/permission"
)

var begin = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// history is everything that the streams may say of one permission, in no order.
type history struct {
	lapses time.Time
	facts  []permission.Fact
	people []said
}

// said is a stop or a resume of its person. The one with the highest sequence holds.
type said struct {
	seq     uint64
	stopped bool
}

// drawHistory draws what writers may write: each fence is of one send, and of one kind of outcome a fence has one.
func drawHistory(r *rapid.T) history {
	h := history{lapses: begin.Add(rapid.SampledFrom([]time.Duration{time.Hour, time.Hour, -time.Hour}).Draw(r, "lapses in"))}
	flip := func(what string) bool { return rapid.Bool().Draw(r, what) }
	rare := func(what string) bool { return rapid.IntRange(0, 7).Draw(r, what) == 0 }
	add := func(f permission.Fact, effect permission.Effect) {
		f.Effect = effect
		h.facts = append(h.facts, f)
	}
	for n := range rapid.IntRange(0, 5).Draw(r, "fences") {
		f := permission.Fact{Fence: uint64(n + 1), Send: fmt.Sprint("send-", rapid.IntRange(1, 3).Draw(r, "send"))}
		if flip("tried") {
			add(f, permission.Tries)
		}
		if flip("unclear") {
			add(f, permission.Clouds)
		}
		if flip("released") {
			released := f
			if flip("parked") {
				released.NotBefore = begin.Add(time.Duration(n) * time.Hour)
			}
			add(released, permission.Releases)
		}
		if rare("spent") {
			spent := f
			if flip("message id") {
				spent.MessageID = fmt.Sprint("m-", n)
			}
			add(spent, permission.Spends)
		}
		if rare("void") {
			add(f, permission.Voids)
		}
	}
	if rare("echo") {
		add(permission.Fact{Send: "send-1", MessageID: "m-echo"}, permission.Spends)
	}
	if rare("found lapsed") {
		add(permission.Fact{Send: "send-9"}, permission.Expires)
	}
	for seq := range rapid.IntRange(0, 3).Draw(r, "stops and resumes") {
		h.people = append(h.people, said{uint64(seq + 1), flip("stopped")})
	}
	return h
}

// play applies everything in the given order, some of it twice.
func (h history) play(order []int, twice func(i int) bool) permission.Record {
	var p permission.Record
	var person said
	for _, i := range order {
		for range 2 {
			switch {
			case i < len(h.facts):
				p.Apply(h.facts[i], begin)
			case i == len(h.facts):
				p.Optin("stock:A", h.lapses, person.stopped, begin)
			default:
				if s := h.people[i-len(h.facts)-1]; s.seq >= person.seq {
					person = s
					switch {
					case !p.Known: // not yet listed as one of the person's
					case s.stopped:
						p.Stop(begin)
					default:
						p.Resume(begin)
					}
				}
			}
			if !twice(i) {
				break
			}
		}
	}
	if len(p.Unclear) == 0 {
		p.Unclear = nil // as good as empty
	}
	return p
}

func (h history) len() int { return len(h.facts) + 1 + len(h.people) }

// Whatever the streams say of a permission, it is the same in whatever order it is read, also with parts of it read twice.
func TestTheOrderOfFactsMakesNoDifference(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		h := drawHistory(r)
		order := make([]int, h.len())
		for i := range order {
			order[i] = i
		}
		want := h.play(order, func(int) bool { return false })
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(r, "orders"), 0)) //nolint:gosec // no secret
		for range 200 {
			random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			got := h.play(order, func(int) bool { return random.IntN(3) == 0 })
			if !reflect.DeepEqual(got, want) {
				r.Fatalf("%+v\nin the order %v makes\n%+v, in the first order\n%+v", h, order, got, want)
			}
		}
	})
}
