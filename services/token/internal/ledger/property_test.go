package ledger_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/onebell/onebell/services/token/internal/permission"
)

// Whatever is done to a few permissions of a few people, the scripts and the model say the same.
func TestTheScriptsFollowTheModel(t *testing.T) {
	onBoth(t, func(t *testing.T, b book) {
		rapid.Check(t, func(r *rapid.T) {
			w := newWorld(t.Context(), r, b)
			if rapid.IntRange(0, 7).Draw(r, "paused") == 0 {
				w.pause()
			}
			var entries []*entry
			for i := range 3 {
				lapses := time.Now().Add(rapid.SampledFrom([]time.Duration{time.Hour, time.Hour, time.Hour, -time.Hour}).Draw(r, "lapses in"))
				entries = append(entries, w.expect(fmt.Sprint("person-", i%2), fmt.Sprint("token-", i), fmt.Sprint("stock:", i/2), lapses))
			}
			n := rapid.IntRange(1, 60).Draw(r, "moves")
			for range n {
				w.move(r, entries[rapid.IntRange(0, len(entries)-1).Draw(r, "permission")])
				w.compare()
			}
			w.compareAnswers(t)
		})
	})
}

// move makes one move, drawn at random.
func (w *world) move(r *rapid.T, e *entry) {
	switch rapid.SampledFrom([]string{"record", "grant", "grant", "grant", "apply", "apply", "apply", "apply", "check", "person", "turn", "sweep"}).Draw(r, "move") {
	case "record":
		w.record(e)
	case "grant":
		topic := e.optin.Topic
		if rapid.IntRange(0, 9).Draw(r, "right topic") == 0 {
			topic = "stock:other"
		}
		w.grant(e, drawSend(r), topic)
	case "apply":
		w.apply(e, drawFact(r, e.Record))
	case "sweep":
		w.sweep(e)
	case "check":
		w.check(e, drawFact(r, e.Record))
	case "person":
		seq := rapid.Uint64Range(1, 20).Draw(r, "sequence")
		w.say(e.optin.PSID, seq%2 == 1, seq)
	case "turn":
		w.turn(e, rapid.SampledFrom([]string{"l", "l", "n", "x"}).Draw(r, "time that passes"))
	}
}

func drawSend(r *rapid.T) string {
	return rapid.SampledFrom([]string{"send-1", "send-2", "10:3:odd 5"}).Draw(r, "send")
}

var effects = []permission.Effect{
	permission.Clouds, permission.Tries, permission.Releases, permission.Releases, permission.Spends, permission.Voids, permission.Expires,
}

// drawFact is about the grant in force as often as about any other, also ones never given.
func drawFact(r *rapid.T, p permission.Record) permission.Fact {
	f := permission.Fact{
		Effect: rapid.SampledFrom(effects).Draw(r, "effect"),
		Send:   p.Send, Fence: p.Fence,
	}
	if f.Send == "" || rapid.Bool().Draw(r, "of any fence") {
		f.Send, f.Fence = drawSend(r), rapid.Uint64Range(0, 6).Draw(r, "fence")
	}
	switch f.Effect {
	case permission.Spends:
		f.MessageID = rapid.SampledFrom([]string{"", "m-1", "m-2"}).Draw(r, "message")
	case permission.Releases:
		if in := rapid.SampledFrom([]time.Duration{0, 0, -time.Hour, time.Hour}).Draw(r, "parked for"); in != 0 {
			f.NotBefore = time.Now().Add(in).Truncate(time.Millisecond)
		}
	}
	return f
}
