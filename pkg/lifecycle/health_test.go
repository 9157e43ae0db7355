package lifecycle_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/onebell/onebell/pkg/admin"
	"github.com/onebell/onebell/pkg/config"
	"github.com/onebell/onebell/pkg/lifecycle"
)

func TestHealthyFollowsReadyz(t *testing.T) {
	t.Parallel()
	ready := &admin.Readiness{}
	var empty atomic.Bool
	ready.Check("ledger", func(context.Context) error {
		if empty.Load() {
			return errors.New("Redis is empty")
		}
		return nil
	})
	srv := httptest.NewServer(admin.Handler(ready))
	addr := strings.TrimPrefix(srv.URL, "http://")

	if err := lifecycle.Healthy(t.Context(), config.Addr(addr)); err != nil {
		t.Errorf("ready: %v", err)
	}
	// The listener of a container is on every interface; its own check goes over loopback.
	_, port, _ := strings.Cut(addr, ":")
	for _, every := range []string{":" + port, "0.0.0.0:" + port, "[::]:" + port} {
		if err := lifecycle.Healthy(t.Context(), config.Addr(every)); err != nil {
			t.Errorf("%s: %v", every, err)
		}
	}
	empty.Store(true)
	if err := lifecycle.Healthy(t.Context(), config.Addr(addr)); err == nil || !strings.Contains(err.Error(), "Redis is empty") {
		t.Errorf("not ready: %v, expected the reason", err)
	}
	srv.Close()
	if err := lifecycle.Healthy(t.Context(), config.Addr(addr)); err == nil {
		t.Error("nobody there, and healthy")
	}
}
