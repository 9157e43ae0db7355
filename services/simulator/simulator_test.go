package simulator_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/onebell/onebell/pkg/config"
	"github.com/onebell/onebell/pkg/testkit"
	"github.com/onebell/onebell/services/simulator"
)

const (
	pageID    = "104200000000017"
	pageToken = "EAA-page-17"
	secret    = "app-secret-17"
	ana       = "7300000000000421"
	pagesYAML = `pages:
  - {id: "104200000000017", shop: wine-and-co, name: Wine & Co, access_token: EAA-page-17, app_secrets: [app-secret-17, app-secret-old], timezone: Europe/Paris, currency: EUR}
  - {id: "2", access_token: EAA-page-2, app_secrets: [app-secret-2]}
`
)

// outside is everything around the simulator: the app's webhook and Onebell's events door.
type outside struct {
	mu       sync.Mutex
	webhooks []item
	events   []map[string]any
	bad      []string
	deaf     bool // answers 503
}

type item struct {
	Sender    struct{ ID string }
	Recipient struct{ ID string }
	Message   *struct {
		MID, Text, Metadata string
		IsEcho              bool                      `json:"is_echo"`
		QuickReply          *struct{ Payload string } `json:"quick_reply"`
	}
	Postback *struct{ Payload string }
	Optin    *struct {
		Type, Payload string
		Token         string `json:"one_time_notif_token"`
	}
	Delivery *struct{ MIDs []string }
	Read     *struct{ Watermark int64 }
}

func (o *outside) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.deaf {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if r.URL.Path == "/v1/events" {
		var event map[string]any
		_ = json.Unmarshal(body, &event)
		o.events = append(o.events, event)
		w.WriteHeader(http.StatusAccepted)
		return
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	if r.Header.Get("X-Hub-Signature-256") != "sha256="+hex.EncodeToString(mac.Sum(nil)) {
		o.bad = append(o.bad, string(body))
	}
	var envelope struct{ Entry []struct{ Messaging []item } }
	_ = json.Unmarshal(body, &envelope)
	o.webhooks = append(o.webhooks, envelope.Entry[0].Messaging...)
}

// find waits for a webhook.
func (o *outside) find(t *testing.T, what string, is func(item) bool) item {
	t.Helper()
	var found item
	testkit.Eventually(t, "webhook: "+what, func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, i := range o.webhooks {
			if is(i) {
				found = i
				return true
			}
		}
		return false
	})
	return found
}

func (o *outside) optin(t *testing.T, payload string) string {
	t.Helper()
	return o.find(t, "opt-in "+payload, func(i item) bool { return i.Optin != nil && i.Optin.Payload == payload }).Optin.Token
}

func (o *outside) setDeaf(deaf bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.deaf = deaf
}

// sim is a running simulator.
type sim struct {
	t    *testing.T
	base string
	out  *outside
	url  string // of outside
	dir  string
	env  []string // names and values
	stop func()
}

func start(t *testing.T, env ...string) *sim {
	t.Helper()
	s := &sim{t: t, out: &outside{}, dir: t.TempDir(), env: env}
	srv := httptest.NewServer(s.out)
	t.Cleanup(srv.Close)
	s.url = srv.URL
	if err := os.WriteFile(filepath.Join(s.dir, "pages.yaml"), []byte(pagesYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run()
	return s
}

func (s *sim) run() {
	s.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	environ := map[string]string{
		"ONEBELL_PAGES_FILE":      filepath.Join(s.dir, "pages.yaml"),
		"ONEBELL_SIMULATOR_STATE": filepath.Join(s.dir, "state"),
		"ONEBELL_WEBHOOK_URL":     s.url + "/webhook", "ONEBELL_EVENTS_URL": s.url,
	}
	for i := 0; i < len(s.env); i += 2 {
		environ[s.env[i]] = s.env[i+1]
	}
	cfg, err := config.Load[simulator.Config](environ)
	if err != nil {
		s.t.Fatal(err)
	}
	cfg.Listener = ln
	s.base = "http://" + ln.Addr().String()
	s.stop = testkit.Run(s.t, "simulator", func(ctx context.Context) error { return simulator.Run(ctx, cfg, testkit.Process(s.t)) })
}

// call does a request and gives status and body.
func (s *sim) call(method, path, body string, headers ...string) (int, string, http.Header) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.base+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error(), nil
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error(), nil
	}
	return resp.StatusCode, string(answer), resp.Header
}

// must does a request of /sim/v1 that has to succeed.
func (s *sim) must(method, path, body string) string {
	s.t.Helper()
	status, answer, _ := s.call(method, "/sim/v1"+path, body)
	if status != http.StatusOK {
		s.t.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
	return answer
}

// send calls the Send API as the app would.
func (s *sim) send(body string) (int, string) {
	s.t.Helper()
	status, answer, _ := s.call("POST", "/v25.0/"+pageID+"/messages", body, "Authorization", "Bearer "+pageToken)
	return status, answer
}

func byToken(token string) string {
	return fmt.Sprintf(`{"recipient":{"one_time_notif_token":%q},"message":{"text":"It is back","metadata":"send-1"}}`, token)
}

func (s *sim) greet() {
	s.t.Helper()
	s.must("POST", "/people", `{"psid":"`+ana+`","name":"Ana","start":true}`)
}

func (s *sim) tap(payload string) string {
	s.t.Helper()
	s.must("POST", "/people/"+ana+"/taps", `{"payload":"`+payload+`"}`)
	return s.out.optin(s.t, payload)
}

func TestFromTapToNotification(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.greet()
	s.must("POST", "/people/"+ana+"/messages", `{"text":"White wine","quick_reply":"LIKES:white-wine"}`)
	s.out.find(t, "quick reply", func(i item) bool {
		return i.Message != nil && i.Message.QuickReply != nil && i.Message.QuickReply.Payload == "LIKES:white-wine" && i.Sender.ID == ana
	})
	for _, payload := range []string{"stock:RIESLING-2024", "price:RAD-SHIRT-M?below=49.90%20EUR", "sale:TICKETS-ROSE"} {
		s.tap(payload)
	}
	token := s.tap("stock:RAD-SHIRT-M")
	if status, answer, _ := s.call("POST", "/sim/v1/people/"+ana+"/taps", `{"payload":"stock:RAD-SHIRT-M"}`); status != http.StatusConflict {
		t.Errorf("tapped again: %d %s", status, answer)
	}

	status, answer := s.send(byToken(token))
	var sent struct {
		RecipientID string `json:"recipient_id"`
		MessageID   string `json:"message_id"`
	}
	if err := json.Unmarshal([]byte(answer), &sent); err != nil || status != http.StatusOK || sent.RecipientID != ana || sent.MessageID == "" {
		t.Fatalf("send: %d %s", status, answer)
	}
	s.out.find(t, "echo with metadata", func(i item) bool {
		return i.Message != nil && i.Message.IsEcho && i.Message.Metadata == "send-1" && i.Message.MID == sent.MessageID && i.Recipient.ID == ana && i.Sender.ID == pageID
	})
	s.out.find(t, "delivery", func(i item) bool { return i.Delivery != nil && i.Delivery.MIDs[0] == sent.MessageID })
	s.must("POST", "/people/"+ana+"/reads", "")
	s.out.find(t, "read", func(i item) bool { return i.Read != nil && i.Sender.ID == ana })

	if status, answer := s.send(byToken(token)); status != http.StatusBadRequest || !strings.Contains(answer, `"code":100,"fbtrace_id"`) {
		t.Errorf("the token a second time: %d %s", status, answer)
	}
	said := s.must("GET", "/people/"+ana+"/conversation", "")
	if strings.Count(said, `"by_token":true`) != 1 || !strings.Contains(said, "It is back") {
		t.Errorf("conversation: %s", said)
	}
	if len(s.out.bad) > 0 {
		t.Errorf("wrong signatures: %v", s.out.bad)
	}
}

func TestTheDoorsOfTheGraphAPI(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.greet()
	proof := func(key string) string {
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte(pageToken))
		return hex.EncodeToString(mac.Sum(nil))
	}
	good := `{"recipient":{"id":"` + ana + `"},"message":{"text":"x"}}`
	form := url.Values{"recipient": {`{"id":"` + ana + `"}`}, "message": {`{"text":"12"}`}, "access_token": {pageToken}}.Encode()
	for name, c := range map[string]struct {
		path, body, bearer, contentType string
		status                          int
		want                            string
	}{
		"a send":              {"/v25.0/" + pageID + "/messages", good, pageToken, "", 200, `"message_id"`},
		"as me":               {"/v25.0/me/messages", good, pageToken, "", 200, `"message_id"`},
		"token in the query":  {"/v25.0/me/messages?access_token=" + pageToken, good, "", "", 200, `"message_id"`},
		"as a form":           {"/v25.0/me/messages", form, "", "application/x-www-form-urlencoded", 200, `"message_id"`},
		"with proof":          {"/v25.0/me/messages?appsecret_proof=" + proof(secret), good, pageToken, "", 200, `"message_id"`},
		"proof by old secret": {"/v25.0/me/messages?appsecret_proof=" + proof("app-secret-old"), good, pageToken, "", 200, `"message_id"`},
		"wrong proof":         {"/v25.0/me/messages?appsecret_proof=" + proof("x"), good, pageToken, "", 400, `Invalid appsecret_proof`},
		"no token":            {"/v25.0/me/messages", good, "", "", 400, `"code":190`},
		"wrong token":         {"/v25.0/" + pageID + "/messages", good, "nope", "", 400, `"code":190`},
		"another page's":      {"/v25.0/2/messages", good, pageToken, "", 400, `"code":190`},
		"unknown page":        {"/v25.0/99/messages", good, pageToken, "", 400, `"error_subcode":33`},
		"not JSON":            {"/v25.0/me/messages", `{"recipient":`, pageToken, "", 400, `"code":100`},
		"another path":        {"/v25.0/me/conversations", good, pageToken, "", 400, `"code":2500`},
	} {
		headers := []string{}
		if c.bearer != "" {
			headers = append(headers, "Authorization", "Bearer "+c.bearer)
		}
		if c.contentType != "" {
			headers = append(headers, "Content-Type", c.contentType)
		}
		if status, answer, _ := s.call("POST", c.path, c.body, headers...); status != c.status || !strings.Contains(answer, c.want) {
			t.Errorf("%s: %d %s; want %d with %s", name, status, answer, c.status, c.want)
		}
	}
	journal := s.must("GET", "/journal", "")
	if strings.Contains(journal, pageToken) || strings.Contains(journal, secret) {
		t.Error("the journal shows a secret")
	}
	if !strings.Contains(journal, `"code":190`) || !strings.Contains(journal, `"appsecret_proof":true`) {
		t.Error("the journal does not tell of refused calls or proofs")
	}
}

func TestSubscriptionsDecideWhatComes(t *testing.T) {
	t.Parallel()
	s := start(t)
	if status, answer, _ := s.call("POST", "/v25.0/me/subscribed_apps?subscribed_fields=messages,messaging_optins", "", "Authorization", "Bearer "+pageToken); status != 200 || !strings.Contains(answer, `"success":true`) {
		t.Fatalf("subscribe: %d %s", status, answer)
	}
	_, answer, _ := s.call("GET", "/v25.0/me/subscribed_apps", "", "Authorization", "Bearer "+pageToken)
	if !strings.Contains(answer, `"subscribed_fields":["messages","messaging_optins"]`) {
		t.Errorf("subscribed: %s", answer)
	}
	s.greet()
	s.tap("stock:RAD-SHIRT-M")
	s.must("POST", "/people/"+ana+"/messages", `{"text":"hi"}`)
	s.out.find(t, "message", func(i item) bool { return i.Message != nil })
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	for _, i := range s.out.webhooks {
		if i.Postback != nil || i.Delivery != nil || i.Message != nil && i.Message.IsEcho {
			t.Errorf("a webhook that nobody subscribed to: %+v", i)
		}
	}
}

func TestARestartHonoursTokens(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.greet()
	kept, spent := s.tap("stock:RIESLING-2024"), s.tap("stock:RAD-SHIRT-M")
	if status, answer := s.send(byToken(spent)); status != http.StatusOK {
		t.Fatalf("send: %d %s", status, answer)
	}
	s.must("POST", "/clock/advance", `{"by":"48h"}`)
	s.must("POST", "/stock", `{"sku":"RIESLING-2024","available":80}`)
	s.out.setDeaf(true)
	s.must("POST", "/people/"+ana+"/taps", `{"payload":"sale:TICKETS-ROSE"}`) // its webhook is not answered
	s.stop()
	s.out.setDeaf(false)
	s.run()

	s.out.optin(t, "sale:TICKETS-ROSE")
	if status, answer := s.send(byToken(spent)); status != http.StatusBadRequest {
		t.Errorf("a spent token after the restart: %d %s", status, answer)
	}
	if status, answer := s.send(byToken(kept)); status != http.StatusOK {
		t.Errorf("a token issued before the restart: %d %s", status, answer)
	}
	if status, answer := s.send(`{"recipient":{"id":"` + ana + `"},"message":{"text":"x"}}`); status != http.StatusBadRequest || !strings.Contains(answer, "2018278") {
		t.Errorf("two days later, by the platform's clock: %d %s", status, answer)
	}
	if shop := s.must("GET", "/shop", ""); !strings.Contains(shop, `"sku":"RIESLING-2024","available":80`) {
		t.Errorf("the desk forgot: %s", shop)
	}
}

func TestTheDeskTellsOnebell(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.must("POST", "/stock", `{"sku":"RAD-SHIRT-M","available":80}`)
	s.must("POST", "/price", `{"sku":"RAD-SHIRT-M","amount":"49.90"}`)
	s.must("POST", "/sale", `{"sku":"TICKETS-ROSE"}`)
	s.out.mu.Lock()
	events, _ := json.Marshal(s.out.events)
	seen := map[any]bool{}
	for _, e := range s.out.events {
		seen[e["event_id"]], seen[e["sequence"]] = true, true
	}
	s.out.mu.Unlock()
	for _, want := range []string{
		`"shop":"wine-and-co"`, `"stock":{"available":80}`, `"price":{"amount":"49.90","currency":"EUR","was":"64.90"}`, `"sale":{"starts_at":"`,
		`"product":{"image_url":"https://shop.example/p/RAD-SHIRT-M.jpg","tags":["shirts"],"title":"Rad shirt M","url":"https://shop.example/p/RAD-SHIRT-M"}`,
	} {
		if !bytes.Contains(events, []byte(want)) {
			t.Errorf("no event with %s in %s", want, events)
		}
	}
	if len(seen) != 6 {
		t.Errorf("event ids and sequences are not fresh: %v", seen)
	}
	s.out.setDeaf(true)
	if status, answer, _ := s.call("POST", "/sim/v1/stock", `{"sku":"RAD-SHIRT-M","available":0}`); status != http.StatusBadGateway || !strings.Contains(answer, "503") {
		t.Errorf("Onebell away: %d %s", status, answer)
	}
	if shop := s.must("GET", "/shop", ""); !strings.Contains(shop, `"sku":"RAD-SHIRT-M","available":80`) {
		t.Errorf("the desk changed although Onebell did not hear: %s", shop)
	}
}
