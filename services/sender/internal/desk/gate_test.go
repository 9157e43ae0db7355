package desk

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheGateFollowsItsWidth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g gate
		var inside atomic.Int32
		for range 5 {
			go func() {
				if g.enter(t.Context()) == nil {
					inside.Add(1)
				}
			}()
		}
		for _, step := range []struct {
			name string
			do   func()
			want int
		}{
			{"closed", func() {}, 0},
			{"two may enter", func() { g.set(2) }, 2},
			{"one leaves", g.leave, 3},
			{"narrower: one inside is one too many", func() { g.set(1); g.leave() }, 3},
			{"the last one leaves", g.leave, 4},
			{"wide open", func() { g.set(9) }, 5},
		} {
			step.do()
			synctest.Wait()
			if got := int(inside.Load()); got != step.want {
				t.Errorf("%s: %d have entered, want %d", step.name, got, step.want)
			}
		}
		g.set(0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if g.enter(ctx) == nil || len(g.queue) != 0 {
			t.Error("who gave up waiting is still there")
		}
	})
}
