package sender

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/onebell/onebell/pkg/admin"
	"github.com/onebell/onebell/pkg/config"
	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/pkg/redislua"
	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/pkg/testkit"
	"github.com/onebell/onebell/proto/ids"
	inventoryv1 "github.com/onebell/onebell/proto/onebell/inventory/v1"
	outcomev1 "github.com/onebell/onebell/proto/onebell/outcome/v1"
	sendv1 "github.com/onebell/onebell/proto/onebell/send/v1"
	"github.com/onebell/onebell/proto/topology"
)

const pageID = "104200000000017"

// world is everything around a sender.
type world struct {
	t        *testing.T
	nats     string
	redis    string
	js       jetstream.JetStream
	products jetstream.KeyValue
	platform *platform
	token    *tokenService
	pages    string
	log      lockedBuffer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t}
	w.nats, w.js = testkit.JetStream(t, topology.Configs(1))
	w.redis, _ = testkit.Redis(t)
	var err error
	if w.products, err = stream.EnsureBucket(t.Context(), w.js, topology.ProductsConfig(1), testkit.Log(t)); err != nil {
		t.Fatal(err)
	}
	w.platform = newPlatform(t)
	w.token = newTokenService(t, w.js)
	w.pages = filepath.Join(t.TempDir(), "pages.yaml")
	w.setPages(page(pageID, "page-token-1", 100))
	return w
}

func page(id, accessToken string, rate float64) string {
	return fmt.Sprintf("  - {id: %q, access_token: %q, app_secrets: [%q], sends_per_second: %g}\n", id, accessToken, "app-secret-"+id, rate)
}

func (w *world) setPages(entries ...string) {
	w.t.Helper()
	next := w.pages + ".next"
	if err := os.WriteFile(next, []byte("pages:\n"+strings.Join(entries, "")), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(next, w.pages); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) config() Config {
	return Config{
		Settings: stream.Settings{NATSURL: w.nats, Replicas: 1}, Redis: redislua.Settings{RedisURL: w.redis},
		TokenAddr: config.Addr(w.token.addr), PagesFile: w.pages,
		GraphURL: config.HTTPURL(w.platform.url), GraphVersion: "v25.0", GraphTimeout: 5 * time.Second, ackWait: 2 * time.Second,
	}
}

// start runs a sender until the test ends or stop is called.
func (w *world) start(cfg Config) (stop func()) {
	w.t.Helper()
	p := &lifecycle.Process{Log: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Ready: &admin.Readiness{}}
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Log(w.log.String())
		}
	})
	return testkit.Run(w.t, "sender", func(ctx context.Context) error { return Run(ctx, cfg, p) })
}

// send makes a send for a person whose permission the token service knows.
func (w *world) send(page, person string) *sendv1.Send {
	token := "otn-" + person
	permission := ids.Permission(page, person, token)
	w.token.know(permission, person, token)
	return &sendv1.Send{
		SendId: ids.Send("alert-1", permission), AlertId: "alert-1", PermissionId: permission, Topic: "stock:S",
		Message: &sendv1.Message{Text: "The secret text for " + person},
	}
}

func (w *world) publish(page string, sends ...*sendv1.Send) {
	w.t.Helper()
	body, err := proto.Marshal(&sendv1.Pack{PageId: page, Sends: sends})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.js.Publish(w.t.Context(), topology.SendSubject(page, topology.Normal), body); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) stock(sku string, available int64) {
	w.t.Helper()
	body, _ := proto.Marshal(&inventoryv1.ProductState{Shop: "default", Sku: sku, Stock: &inventoryv1.StockState{Available: available}})
	if _, err := w.products.Put(w.t.Context(), topology.ProductKey("default", sku), body); err != nil {
		w.t.Fatal(err)
	}
}

// all reads a whole stream.
func (w *world) all(name string) []*jetstream.RawStreamMsg {
	w.t.Helper()
	s, err := w.js.Stream(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	var all []*jetstream.RawStreamMsg
	for seq := max(1, s.CachedInfo().State.FirstSeq); seq <= s.CachedInfo().State.LastSeq; seq++ {
		msg, err := s.GetMsg(w.t.Context(), seq)
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, msg)
	}
	return all
}

func (w *world) outcomes() []*outcomev1.Outcome {
	w.t.Helper()
	var all []*outcomev1.Outcome
	for _, msg := range w.all(topology.Outcomes) {
		all = append(all, readOutcome(w.t, msg.Data))
	}
	return all
}

func readOutcome(t *testing.T, body []byte) *outcomev1.Outcome {
	t.Helper()
	o := &outcomev1.Outcome{}
	if err := protojson.Unmarshal(body, o); err != nil {
		t.Fatal(err)
	}
	return o
}

// verdicts counts the outcomes so far.
func (w *world) verdicts() map[string]int {
	w.t.Helper()
	counts := map[string]int{}
	for _, o := range w.outcomes() {
		counts[o.GetVerdict()]++
	}
	return counts
}

// queued counts the packs in SENDS, put off or not.
func (w *world) queued() int {
	w.t.Helper()
	s, err := w.js.Stream(w.t.Context(), topology.Sends)
	if err != nil {
		w.t.Fatal(err)
	}
	return int(s.CachedInfo().State.Msgs)
}

// settled waits until everybody got the message and nothing waits any more.
func (w *world) settled(people int) {
	w.t.Helper()
	testkit.Eventually(w.t, "everybody got the message", func() bool { return w.platform.delivered() == people && w.queued() == 0 })
}

// request is what the platform received.
type request struct {
	method, path, query, authorization, contentType, traceparent string
	body                                                         map[string]any
	token                                                        string
	at                                                           time.Time
}

// platform is a Send API: each token is good once.
type platform struct {
	url string
	mu  sync.Mutex
	got []request
	use map[string]int // messages delivered by token
	// answer may take over; the token is not used then, unless it calls deliver.
	answer func(w http.ResponseWriter, r *http.Request, got request, deliver func() bool) (done bool)
}

func newPlatform(t *testing.T) *platform {
	p := &platform{use: map[string]int{}}
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	p.url = srv.URL
	return p
}

func (p *platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	got := request{
		method: r.Method, path: r.URL.Path, query: r.URL.RawQuery, authorization: r.Header.Get("Authorization"),
		contentType: r.Header.Get("Content-Type"), traceparent: r.Header.Get("Traceparent"), at: time.Now(),
	}
	content, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(content, &got.body)
	if to, ok := got.body["recipient"].(map[string]any); ok {
		got.token, _ = to["one_time_notif_token"].(string)
	}
	p.mu.Lock()
	p.got = append(p.got, got)
	answer := p.answer
	p.mu.Unlock()
	deliver := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.use[got.token] > 0 {
			return false
		}
		p.use[got.token]++
		return true
	}
	if answer != nil && answer(w, r, got, deliver) {
		return
	}
	if !deliver() {
		refuse(w, 400, 100, 0)
		return
	}
	_, _ = fmt.Fprintf(w, `{"recipient_id":"1","message_id":"m_%s"}`, got.token)
}

func refuse(w http.ResponseWriter, status, code, subcode int) {
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"error":{"message":"no","code":%d,"error_subcode":%d,"fbtrace_id":"Fx"}}`, code, subcode)
}

func (p *platform) set(answer func(w http.ResponseWriter, r *http.Request, got request, deliver func() bool) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

func (p *platform) requests() []request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]request(nil), p.got...)
}

// delivered counts the people who got a message.
func (p *platform) delivered() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.use)
}

// lockedBuffer collects log lines of several goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
