package desk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"

	"github.com/onebell/onebell/pkg/redislua"
	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/pkg/testkit"
	"github.com/onebell/onebell/proto/ids"
	inventoryv1 "github.com/onebell/onebell/proto/onebell/inventory/v1"
	sendv1 "github.com/onebell/onebell/proto/onebell/send/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/sender/internal/answer"
	"github.com/onebell/onebell/services/sender/internal/graph"
	"github.com/onebell/onebell/services/sender/internal/ledger"
	"github.com/onebell/onebell/services/sender/internal/pace"
	"github.com/onebell/onebell/services/sender/internal/products"
)

// slowBucket is a bucket that takes its time.
type slowBucket struct {
	jetstream.KeyValue
	takes time.Duration
}

func (b slowBucket) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(b.takes):
		return b.KeyValue.Get(ctx, key)
	}
}

// Calls whose product was read slowly wait for the same answer. They do not start together when it comes.
func TestASlowBucketMakesNoBurst(t *testing.T) {
	t.Parallel()
	const people, rate = 40, 50
	var mu sync.Mutex
	var calls []time.Time
	platform := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		calls = append(calls, time.Now())
		mu.Unlock()
		_, _ = fmt.Fprint(w, `{"message_id":"m"}`)
	}))
	defer platform.Close()
	_, js := testkit.JetStream(t, topology.Configs(1))
	bucket, err := stream.EnsureBucket(t.Context(), js, topology.ProductsConfig(1), testkit.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	state, _ := proto.Marshal(&inventoryv1.ProductState{Stock: &inventoryv1.StockState{Available: 5}})
	if _, err := bucket.Put(t.Context(), topology.ProductKey("default", "S"), state); err != nil {
		t.Fatal(err)
	}
	url, _ := testkit.Redis(t)
	rdb, err := redislua.Open(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rdb.Close() }()
	d := &Desk{
		JS: js, Products: products.New(slowBucket{bucket, 400 * time.Millisecond}), Graph: graph.New(platform.URL, "v25.0", time.Second, 64),
		Pace: pace.NewStore(rdb), Ledger: ledger.New(js), Log: testkit.Log(t), CallLimit: time.Second,
	}
	p := newPage(d, pages.Page{ID: "1", SendsPerSecond: rate})
	j := &job{p: p, stopping: t.Context(), u: topology.Normal, cause: "1", verdicts: map[string]int{}}
	var tasks []task
	for i := range people {
		permission := ids.Permission("1", fmt.Sprint(i), fmt.Sprint("otn-", i))
		tasks = append(tasks, task{
			send: &sendv1.Send{
				SendId: fmt.Sprint("send-", i), PermissionId: permission, Message: &sendv1.Message{Text: "hello"},
				Condition: &sendv1.Condition{Shop: "default", Sku: "S", MinAvailable: 1},
			},
			grant: &tokenv1.Granted{Fence: 1, RecipientToken: fmt.Sprint("otn-", i)}, until: time.Now().Add(30 * time.Second),
		})
	}
	if err := j.callAll(t.Context(), tasks); err != nil {
		t.Fatal(err)
	}
	if len(calls) != people {
		t.Fatalf("%d calls, want %d", len(calls), people)
	}
	// Ten in 200 ms is the pace; without it twenty come at once.
	for i := range calls {
		n := 0
		for _, at := range calls[i:] {
			if at.Sub(calls[i]) < 200*time.Millisecond {
				n++
			}
		}
		if n > 14 {
			t.Errorf("%d calls within 200 ms, want about 10", n)
		}
	}
}

// The pages of an app stand still at once here, although Redis does not answer.
func TestAThrottleStopsThePagesOfTheAppBeforeRedisAnswers(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{ContextTimeoutEnabled: true, Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	defer func() { _ = rdb.Close() }()
	d := &Desk{Pace: pace.NewStore(rdb), Log: slog.New(slog.DiscardHandler), working: map[string]*page{}}
	var file pages.File
	for i := range 100 {
		settings := pages.Page{ID: fmt.Sprint(i), SendsPerSecond: 10, AppSecrets: []pages.Secret{"secret"}}
		file.Pages = append(file.Pages, settings)
		d.working[settings.ID] = newPage(d, settings)
	}
	d.Pages = func() pages.File { return file }
	begun := time.Now()
	first := d.working["0"]
	done := make(chan time.Duration)
	go func() {
		done <- first.stop(t.Context(), first.settings.Load(), answer.Decision{Stop: answer.StopApp, StopFor: 5 * time.Minute}, answer.Answer{})
	}()
	testkit.Eventually(t, "every page stands", func() bool {
		for _, p := range d.all() {
			if !p.seen().Stopped() {
				return false
			}
		}
		return true
	})
	var stopped *pace.StoppedError
	if err := d.working["99"].pacer.Wait(t.Context(), false); !errors.As(err, &stopped) {
		t.Errorf("a call of another page: %v", err)
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("the pages stand after %s", took)
	}
	if wait := <-done; wait != 5*time.Minute {
		t.Errorf("stands for %s", wait)
	}
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("the answer was held up for %s", took)
	}
}
