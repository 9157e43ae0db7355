package lifecycle_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onebell/onebell/pkg/lifecycle"
)

func TestPartsStopInReverse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var stopped []string
		part := func(name string) lifecycle.Part {
			return lifecycle.Part{Name: name, Run: func(ctx context.Context) error {
				<-ctx.Done()
				mu.Lock()
				defer mu.Unlock()
				stopped = append(stopped, name)
				return nil
			}}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := lifecycle.Run(ctx, time.Minute, part("a"), part("b"), part("c")); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(stopped, []string{"c", "b", "a"}) {
			t.Errorf("stopped in the order %v", stopped)
		}
	})
}

func TestAPartThatFailsStopsTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		boom := errors.New("boom")
		err := lifecycle.Run(t.Context(), time.Minute,
			lifecycle.Part{Name: "good", Run: func(ctx context.Context) error { <-ctx.Done(); return nil }},
			lifecycle.Part{Name: "bad", Run: func(context.Context) error { return boom }})
		if !errors.Is(err, boom) || !strings.Contains(err.Error(), "bad") {
			t.Errorf("err = %v", err)
		}
	})
}

func TestAPartThatHangsIsNamed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		release := make(chan struct{})
		err := lifecycle.Run(ctx, time.Minute, lifecycle.Part{Name: "slow", Run: func(context.Context) error { <-release; return nil }})
		if err == nil || !strings.Contains(err.Error(), "slow: did not finish within 1m0s") {
			t.Errorf("err = %v", err)
		}
		close(release)
	})
}
