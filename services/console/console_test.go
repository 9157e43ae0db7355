package console_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onebell/onebell/pkg/admin"
	"github.com/onebell/onebell/pkg/config"
	"github.com/onebell/onebell/pkg/door"
	"github.com/onebell/onebell/pkg/embed"
	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/pkg/testkit"
	alertv1 "github.com/onebell/onebell/proto/onebell/alert/v1"
	outcomev1 "github.com/onebell/onebell/proto/onebell/outcome/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/console"
)

const (
	page         = "104200000000017"
	hostile      = `stock:"><script>alert(1)</script>`
	pageToken    = "page-access-token-of-the-test"
	appSecret    = "app-secret-of-the-test"
	operatorDoor = "operator-token-of-the-test"
)

const pagesFile = "pages:\n  - {id: \"" + page + "\", shop: wine-and-co, name: Wine & Co, access_token: " + pageToken + ", app_secrets: [" + appSecret + "], verify_token: verify}\n"

// ledger is the token service of a test.
type ledger struct {
	tokenv1.UnimplementedTokenServiceServer
	topics []*tokenv1.TopicCount
	asked  atomic.Int64
}

func (l *ledger) Count(_ context.Context, r *tokenv1.CountRequest) (*tokenv1.CountResponse, error) {
	l.asked.Add(1)
	if r.GetPageId() != page {
		return nil, status.Error(codes.InvalidArgument, "page_id")
	}
	return &tokenv1.CountResponse{Counts: l.topics}, nil
}

// teller is the alert service of a test.
type teller struct {
	alertv1.UnimplementedAlertServiceServer
	steps []*alertv1.Step
	asked atomic.Pointer[alertv1.ExplainRequest]
}

func (s *teller) Explain(_ context.Context, r *alertv1.ExplainRequest) (*alertv1.ExplainResponse, error) {
	s.asked.Store(r)
	return &alertv1.ExplainResponse{Steps: s.steps}, nil
}

// world is a console and what it looks at.
type world struct {
	url    string
	js     jetstream.JetStream
	ledger *ledger
	teller *teller
	stop   func()
}

type beyond struct{ net.Listener }

// Addr makes a loopback listener look as if it were open to others.
func (b beyond) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 8090} }

// start runs a console; change may spoil its settings.
func start(t *testing.T, change func(*console.Config)) *world {
	t.Helper()
	w := &world{ledger: &ledger{}, teller: &teller{}}
	natsURL, js := testkit.JetStream(t, topology.Configs(1))
	w.js = js
	srv := grpc.NewServer()
	tokenv1.RegisterTokenServiceServer(srv, w.ledger)
	alertv1.RegisterAlertServiceServer(srv, w.teller)
	services := listen(t)
	go func() { _ = srv.Serve(services) }()
	t.Cleanup(srv.Stop)

	file := filepath.Join(t.TempDir(), "pages.yaml")
	if err := os.WriteFile(file, []byte(pagesFile), 0o600); err != nil {
		t.Fatal(err)
	}
	ln := listen(t)
	w.url = "http://" + ln.Addr().String()
	addr := config.Addr(services.Addr().String())
	cfg := console.Config{Listener: ln, NATS: stream.Settings{NATSURL: natsURL}, TokenAddr: addr, AlertAddr: addr, PagesFile: file}
	if change != nil {
		change(&cfg)
	}
	w.stop = testkit.Run(t, "console", func(ctx context.Context) error { return console.Run(ctx, cfg, testkit.Process(t)) })
	return w
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

// away is an address at which nobody answers.
func away(t *testing.T) config.Addr {
	ln := listen(t)
	_ = ln.Close()
	return config.Addr(ln.Addr().String())
}

func get(t *testing.T, client *http.Client, address string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/html")
	return do(t, client, r)
}

func do(t *testing.T, client *http.Client, r *http.Request) (int, string, http.Header) {
	t.Helper()
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}

func (w *world) publish(t *testing.T, o *outcomev1.Outcome) {
	t.Helper()
	body, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	subject := topology.OutcomeSubject(o.GetPageId(), "00", o.GetVerdict())
	if err := stream.PublishAll(t.Context(), w.js, stream.NewMsg(t.Context(), subject, "", body)); err != nil {
		t.Fatal(err)
	}
}

func wants(t *testing.T, body string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(body, part) {
			t.Errorf("%q is not in the page:\n%s", part, body)
		}
	}
}

func TestTheOverviewShowsPermissionsOutcomesStreamsAndDeadLetters(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.ledger.topics = []*tokenv1.TopicCount{{PageId: page, Topic: "stock:RAD-SHIRT-M", Waiting: 12345, Spent: 7}, {PageId: page, Topic: hostile, Waiting: 1}}
	for range 3 {
		letter := nats.NewMsg(topology.DeadSubject(topology.Sends))
		letter.Header.Set(stream.HeaderReason, "given_up")
		if _, err := w.js.PublishMsg(t.Context(), letter); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.js.CreateConsumer(t.Context(), topology.Dead, jetstream.ConsumerConfig{Durable: "drawer"}); err != nil {
		t.Fatal(err)
	}
	for n := range 60 {
		w.publish(t, &outcomev1.Outcome{PageId: page, Psid: "7", Topic: hostile, Verdict: "sent", PermissionId: "p", Final: true, Attempt: int32(n + 1), At: timestamppb.Now()})
	}
	var body string
	testkit.Eventually(t, "the last outcome is shown", func() bool {
		_, body, _ = get(t, http.DefaultClient, w.url)
		return strings.Contains(body, "try 60<")
	})
	wants(t, body, "Wine &amp; Co", "stock:RAD-SHIRT-M", "12\u202f345", "12\u202f346", "OUTCOMES", "drawer <b>3</b>", "given_up", `<td class="n">3</td>`,
		"stock:&#34;&gt;&lt;script&gt;", "/explain?page="+page+"&amp;psid=7")
	for _, never := range []string{"<script>alert", pageToken, appSecret, "try 10<"} {
		if strings.Contains(body, never) {
			t.Errorf("%q is in the page", never)
		}
	}
	if w.ledger.asked.Load() == 0 {
		t.Error("the token service was not asked")
	}
}

func TestBrowsersAreToldToRunNothingElse(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	var code int
	var body string
	var h http.Header
	testkit.Eventually(t, "the outcomes are read", func() bool {
		code, body, h = get(t, http.DefaultClient, w.url)
		return strings.Contains(body, "Nothing sent yet")
	})
	if code != http.StatusOK || !strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none'") || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %v", code, h)
	}
	wants(t, body, "No opt-ins yet: tap <b>Notify me</b> in the simulator", "nothing was given up")
	for _, file := range []string{"live.js", "console.css", "bell.svg"} {
		wants(t, body, "/static/"+file)
		if code, _, _ := get(t, http.DefaultClient, w.url+"/static/"+file); code != http.StatusOK {
			t.Errorf("%s: %d", file, code)
		}
	}
}

func TestAnOutcomeAppearsOnAnOpenPage(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/live", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatal(got)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	seen := map[string]bool{}
	event := ""
	for !seen["permissions"] || !seen["outcomes"] || !seen["streams"] || !seen["dead"] || !seen["new"] {
		if !lines.Scan() {
			t.Fatal("the events ended", lines.Err())
		}
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case name == "event":
			event = value
			if !seen[event] && event == "outcomes" {
				w.publish(t, &outcomev1.Outcome{PageId: page, Psid: "7", Topic: "stock:A\n\nevent: dead\ndata: forged", Verdict: "unclear", At: timestamppb.Now()})
			}
			seen[event] = true
		case strings.Contains(lines.Text(), "unclear"):
			seen["new"] = event == "outcomes"
		case strings.HasPrefix(lines.Text(), "data: forged") && event != "outcomes":
			t.Error("a topic made an event of its own")
		}
	}
	begin := time.Now()
	w.stop()
	if took := time.Since(begin); took > 8*time.Second {
		t.Errorf("the stop waited %s for an open page", took)
	}
}

func TestAStoryIsToldInOrder(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	at := timestamppb.New(time.Date(2026, 11, 22, 13, 4, 5, 0, time.UTC))
	w.teller.steps = []*alertv1.Step{
		{At: at, Kind: alertv1.StepKind_STEP_KIND_OPTED_IN, Topic: hostile, PermissionId: "perm"},
		{At: at, Kind: alertv1.StepKind_STEP_KIND_SETTLED, Verdict: "sent", Attempt: 2, Code: 1200, SendId: "send", Reason: "<b>why</b>"},
	}
	code, body, _ := get(t, http.DefaultClient, w.url+"/explain?page="+page+"&psid=7%207")
	if code != http.StatusOK || w.teller.asked.Load().GetPsid() != "7 7" || w.teller.asked.Load().GetPageId() != page {
		t.Fatalf("%d, asked %v", code, w.teller.asked.Load())
	}
	wants(t, body, "22 Nov 13:04:05", "Opted in", "&lt;script&gt;", "Settled", "try 2", "code 1200", "&lt;b&gt;why", "permission="+"perm")
	if strings.Contains(body, "<script>alert") || strings.Index(body, "Opted in") > strings.Index(body, "Settled") {
		t.Error(body)
	}
	for query, want := range map[string]int{
		"": 200, "?page=" + page: 200, "?psid=7": 400, "?page=1&psid=7&send=8": 400, "?page=" + page + "&permission=x": 200, "?page=" + page + "&send=x": 200,
	} {
		if code, _, _ := get(t, http.DefaultClient, w.url+"/explain"+query); code != want {
			t.Errorf("%q: %d, want %d", query, code, want)
		}
	}
}

func TestAServiceThatIsAwayIsSaidInItsPlaceAndTheRestWorks(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *console.Config) { c.TokenAddr, c.AlertAddr = away(t), away(t) })
	begin := time.Now()
	code, body, _ := get(t, http.DefaultClient, w.url)
	if took := time.Since(begin); code != http.StatusOK || took > 5*time.Second {
		t.Errorf("%d after %s", code, took)
	}
	wants(t, body, "The token service at", "does not answer", "OUTCOMES")
	code, body, _ = get(t, http.DefaultClient, w.url+"/explain?page="+page+"&psid=7")
	if code != http.StatusServiceUnavailable {
		t.Errorf("explain: %d", code)
	}
	wants(t, body, "The alert service at", "does not answer")
}

func TestNATSAwayIsSaidAndTheRestWorks(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *console.Config) { c.NATS.NATSURL = "nats://" + string(away(t)) })
	w.ledger.topics = []*tokenv1.TopicCount{{PageId: page, Topic: "stock:A", Waiting: 3}}
	begin := time.Now()
	_, body, _ := get(t, http.DefaultClient, w.url)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
	wants(t, body, "stock:A", "NATS does not answer")
}

func TestTheOutcomesGoOnWhenNATSIsBack(t *testing.T) {
	t.Parallel()
	options := embed.NATSOptions{Addr: "127.0.0.1:0", Dir: t.TempDir(), Log: testkit.Log(t)}
	first, err := embed.StartNATS(options)
	if err != nil {
		t.Fatal(err)
	}
	options.Addr = strings.TrimPrefix(first.URL(), "nats://")
	w := start(t, func(c *console.Config) { c.NATS.NATSURL = first.URL() })
	nc, js, err := stream.Connect(first.URL(), "test", testkit.Log(t), &admin.Readiness{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	shows := func(what string) {
		t.Helper()
		testkit.Eventually(t, what+" is shown", func() bool {
			_, body, _ := get(t, http.DefaultClient, w.url)
			return strings.Contains(body, what)
		})
	}
	shows("has no stream OUTCOMES yet")
	if err := stream.Ensure(t.Context(), js, topology.Configs(1), testkit.Log(t)); err != nil {
		t.Fatal(err)
	}
	w.js = js
	w.publish(t, &outcomev1.Outcome{PageId: page, Topic: "stock:BEFORE", Verdict: "sent"})
	shows("stock:BEFORE")
	first.Stop()
	shows("NATS does not answer, or")
	again, err := embed.StartNATS(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Stop)
	testkit.Eventually(t, "the publisher is back", nc.IsConnected)
	w.publish(t, &outcomev1.Outcome{PageId: page, Topic: "stock:AFTER", Verdict: "sent"})
	shows("stock:AFTER")
	if _, body, _ := get(t, http.DefaultClient, w.url); strings.Count(body, "stock:BEFORE") != 1 || strings.Contains(body, "NATS does not answer") {
		t.Error(body)
	}
}

func TestBeyondLoopbackTheDoorAsksAndABrowserSignsIn(t *testing.T) {
	t.Parallel()
	w := start(t, func(c *console.Config) {
		c.Listener = beyond{c.Listener}
		c.Door = door.Settings{TokensFile: filepath.Join(t.TempDir(), "tokens")}
		if err := os.WriteFile(c.Door.TokensFile, []byte("ann operator "+operatorDoor+"\nwms publisher publisher-token-of-test\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	for _, c := range []struct {
		path, header, accept string
		code                 int
		says                 string
	}{
		{"/", "", "text/html", 401, "Sign in"},
		{"/live", "", "text/event-stream", 401, "Bearer"},
		{"/explain", "Bearer wrong", "", 401, "not known"},
		{"/", "Bearer publisher-token-of-test", "", 403, "does not reach"},
		{"/", "Bearer " + operatorDoor, "", 200, "Who is waiting"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+c.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", c.accept)
		r.Header.Set("Authorization", c.header)
		code, body, _ := do(t, http.DefaultClient, r)
		if code != c.code || !strings.Contains(body, c.says) {
			t.Errorf("%s with %q: %d %s", c.path, c.header, code, body)
		}
	}

	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	post := func(path, token, origin string) (int, string, http.Header) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+path, strings.NewReader(url.Values{"token": {token}}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Accept", "text/html")
		r.Header.Set("Origin", origin)
		return do(t, browser, r)
	}
	if code, body, _ := post("/signin", "wrong", w.url); code != 401 || !strings.Contains(body, "not known") {
		t.Errorf("wrong token: %d %s", code, body)
	}
	if code, _, _ := post("/signin", operatorDoor, "https://elsewhere.example"); code != 403 {
		t.Errorf("from another site: %d", code)
	}
	if code, body, _ := post("/signin", operatorDoor, w.url); code != 200 || !strings.Contains(body, "Sign out") || strings.Contains(body, operatorDoor) {
		t.Errorf("signed in: %d %s", code, body)
	}
	if code, _, _ := get(t, browser, w.url+"/explain"); code != 200 {
		t.Errorf("with the cookie: %d", code)
	}
	if code, body, _ := post("/signout", "", w.url); code != 401 || !strings.Contains(body, "Sign in") {
		t.Errorf("signed out: %d %s", code, body)
	}
}
