// Package testkit gives tests the real parts: a NATS server with JetStream, a redis-server, and waiting for a condition.
// Everything it starts ends with the test.
package testkit

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"github.com/onebell/onebell/pkg/admin"
	"github.com/onebell/onebell/pkg/embed"
	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/pkg/redislua"
	"github.com/onebell/onebell/pkg/stream"
)

// Log writes to the test's own log.
func Log(t testing.TB) *slog.Logger {
	w := &writer{t: t}
	t.Cleanup(w.end)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// Process is a process whose log goes to the test.
func Process(t testing.TB) *lifecycle.Process {
	return &lifecycle.Process{Log: Log(t), Ready: &admin.Readiness{}, Version: "test"}
}

// NATS starts a server and gives its URL. Stored in a directory of the test.
func NATS(t testing.TB) string {
	t.Helper()
	n, err := embed.StartNATS(embed.NATSOptions{Addr: "127.0.0.1:0", Dir: t.TempDir(), Log: Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	return n.URL()
}

// JetStream starts a server, makes the streams and gives a client.
func JetStream(t testing.TB, configs []jetstream.StreamConfig) (url string, js jetstream.JetStream) {
	t.Helper()
	url = NATS(t)
	nc, js, err := stream.Connect(url, t.Name(), Log(t), &admin.Readiness{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if err := stream.Ensure(t.Context(), js, configs, Log(t)); err != nil {
		t.Fatal(err)
	}
	return url, js
}

// Redis starts a redis-server that keeps nothing and gives its URL and a client. A machine without redis-server fails the
// test: `make test` installs it.
func Redis(t testing.TB) (url string, rdb redis.UniversalClient) {
	t.Helper()
	r, err := embed.StartRedis(t.Context(), embed.RedisOptions{Addr: "127.0.0.1:0", Log: Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	return r.URL(), client(t, r.URL())
}

// StandIn starts the in-process stand-in for Redis.
func StandIn(t testing.TB) (url string, rdb redis.UniversalClient) {
	t.Helper()
	r, err := embed.StartStandIn("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	return r.URL(), client(t, r.URL())
}

func client(t testing.TB, url string) redis.UniversalClient {
	rdb, err := redislua.Open(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// Run runs a service until the test ends, and fails the test when it ends before.
func Run(t testing.TB, name string, run func(ctx context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("%s: %v", name, err)
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(stop)
	return stop
}

// patience is how long a condition may take on a machine that is busy with other tests.
const patience = 30 * time.Second

// Eventually waits until a condition holds. `what` is said when it does not.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// writer gives log lines to a test until it ends: logging after that would panic.
type writer struct {
	t    testing.TB
	mu   sync.Mutex
	over bool
}

func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		w.t.Log(string(bytes.TrimRight(p, "\n")))
	}
	return len(p), nil
}

func (w *writer) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
}
