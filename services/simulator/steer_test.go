package simulator_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/onebell/onebell/pkg/testkit"
	"github.com/onebell/onebell/services/simulator/internal/steer"
)

// TestEveryRouteRefusesBadInputClearly walks the table of routes: a route without a line here fails it.
func TestEveryRouteRefusesBadInputClearly(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.greet()
	type bad struct {
		path, body string
		status     int
		want       string // in the error's text
	}
	person := "/sim/v1/people/" + ana
	cases := map[string][]bad{
		"GET /sim/v1/people": {{"/sim/v1/people?page_id=9", "", 404, `page_id "9" is not in pages.yaml`}},
		"POST /sim/v1/people": {
			{"/sim/v1/people", `{"page_id":"9"}`, 404, "not in pages.yaml"},
			{"/sim/v1/people", `{"psid":"` + strings.Repeat("7", 65) + `"}`, 400, "psid has 65 characters"},
			{"/sim/v1/people", `{"nickname":"Ana"}`, 400, "nickname"},
			{"/sim/v1/people", `[]`, 400, "expected JSON object"},
			{"/sim/v1/people", `{} {}`, 400, "more than one"},
			{"/sim/v1/people", `{"name":"` + strings.Repeat("x", 70_000) + `"}`, 400, "larger than"},
		},
		"GET /sim/v1/people/{psid}":              {{"/sim/v1/people/1", "", 404, "no such person"}},
		"GET /sim/v1/people/{psid}/conversation": {{"/sim/v1/people/1/conversation", "", 404, "no such person"}},
		"POST /sim/v1/people/{psid}/messages": {
			{person + "/messages", `{"text":""}`, 400, "text has 0 characters: expected 1"},
			{person + "/messages", ``, 400, "text has 0"},
			{"/sim/v1/people/1/messages", `{"text":"x"}`, 404, "no such person"},
			{person + "/messages?page_id=2", `{"text":"x"}`, 404, "no such person"},
		},
		"POST /sim/v1/people/{psid}/postbacks": {{person + "/postbacks", `{"title":"x"}`, 400, "payload has 0"}},
		"POST /sim/v1/people/{psid}/taps": {
			{person + "/taps", `{}`, 400, "expected message_id"},
			{person + "/taps", `{"message_id":"m","payload":"p"}`, 400, "expected message_id"},
			{person + "/taps", `{"payload":"stock:NOPE"}`, 404, "no such card"},
			{"/sim/v1/people/1/taps", `{"payload":"stock:NOPE","without_card":true}`, 404, "no such person"},
		},
		"POST /sim/v1/people/{psid}/reads": {{"/sim/v1/people/1/reads", "", 404, "no such person"}, {person + "/reads", "x", 400, "expected JSON"}},
		"POST /sim/v1/people/{psid}/block": {{person + "/block", `{}`, 400, "blocked is missing"}},
		"POST /sim/v1/optins":              {{"/sim/v1/optins", `{"payload":"stock:A","people":0}`, 400, "people is 0"}, {"/sim/v1/optins", `{"people":1}`, 400, "payload has 0"}},
		"GET /sim/v1/tokens":               {{"/sim/v1/tokens?page_id=9", "", 404, "not in pages.yaml"}},
		"GET /sim/v1/clock":                {},
		"POST /sim/v1/clock/advance":       {{"/sim/v1/clock/advance", `{"by":"-1h"}`, 400, "expected a duration ahead"}, {"/sim/v1/clock/advance", `{"by":"soon"}`, 400, "expected a duration"}},
		"GET /sim/v1/faults":               {},
		"PUT /sim/v1/faults": {
			{"/sim/v1/faults", `{"error_rate":2}`, 400, "error_rate is 2: expected 0 to 1"},
			{"/sim/v1/faults", `{"error_rate":1}`, 400, "error is missing"},
			{"/sim/v1/faults", `{"error":"often","error_rate":1}`, 400, "code like 100"},
			{"/sim/v1/faults", `{"page_id":"9"}`, 404, "not in pages.yaml"},
		},
		"DELETE /sim/v1/faults": {},
		"GET /sim/v1/switches":  {},
		"PUT /sim/v1/switches":  {{"/sim/v1/switches", `{"title_unit":"inches","spent_token":"100"}`, 400, "runes, utf16 or bytes"}},
		"GET /sim/v1/journal":   {{"/sim/v1/journal?after=x", "", 400, "after is"}, {"/sim/v1/journal?what=gossip", "", 400, "what is"}, {"/sim/v1/journal?limit=0", "", 400, "limit is"}},
		"GET /sim/v1/shop":      {},
		"POST /sim/v1/stock": {
			{"/sim/v1/stock", `{"sku":"RAD-SHIRT-M"}`, 400, "available is missing"},
			{"/sim/v1/stock", `{"sku":"RAD-SHIRT-M","available":-1}`, 400, "available is -1"},
			{"/sim/v1/stock", `{"sku":"NOPE","available":1}`, 404, "RIESLING-2024, RAD-SHIRT-M, TICKETS-ROSE"},
		},
		"POST /sim/v1/price": {{"/sim/v1/price", `{"sku":"RAD-SHIRT-M","amount":"cheap"}`, 400, "a number like 49.90"}},
		"POST /sim/v1/sale": {
			{"/sim/v1/sale", `{"sku":"RAD-SHIRT-M"}`, 400, "only tickets"},
			{"/sim/v1/sale", `{"sku":"TICKETS-ROSE","starts_at":"tomorrow"}`, 400, "expected JSON object"},
		},
	}
	for route := range (&steer.API{}).Routes() {
		list, ok := cases[route]
		if !ok {
			t.Errorf("%s: no bad input is tried", route)
		}
		method, _, _ := strings.Cut(route, " ")
		for _, c := range list {
			status, answer, _ := s.call(method, c.path, c.body)
			var refusal struct{ Error string }
			if err := json.Unmarshal([]byte(answer), &refusal); err != nil || status != c.status || !strings.Contains(refusal.Error, c.want) {
				t.Errorf("%s %s %.80s: %d %s; want %d with %q", method, c.path, c.body, status, answer, c.status, c.want)
			}
		}
	}
	if status, answer, _ := s.call("GET", "/sim/v1/nonsense", ""); status != 404 || !strings.Contains(answer, "no route") {
		t.Errorf("an unknown route: %d %s", status, answer)
	}
}

func TestAnotherSiteMayNotSteer(t *testing.T) {
	t.Parallel()
	s := start(t)
	if status, answer, _ := s.call("POST", "/sim/v1/people", `{}`, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"); status != http.StatusForbidden {
		t.Errorf("from another site: %d %s", status, answer)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.greet()
	token := s.tap("stock:RAD-SHIRT-M")
	s.must("PUT", "/faults", `{"error":"613","error_rate":1,"regain_minutes":3}`)
	status, answer, header := s.call("POST", "/v25.0/me/messages", byToken(token), "Authorization", "Bearer "+pageToken)
	if status != 400 || !strings.Contains(answer, `"code":613`) || !strings.Contains(header.Get("X-Business-Use-Case-Usage"), `"estimated_time_to_regain_access":3`) {
		t.Errorf("throttled: %d %s %v", status, answer, header)
	}
	s.must("PUT", "/faults", `{"cut_rate":1}`)
	if status, _ := s.send(byToken(token)); status != 0 {
		t.Errorf("a cut connection was answered %d", status)
	}
	s.must("PUT", "/faults", `{"reset_rate":1,"webhooks":{"duplicate_rate":1}}`)
	if status, _ := s.send(byToken(token)); status != 0 {
		t.Errorf("a reset connection was answered %d", status)
	}
	s.must("DELETE", "/faults", "")
	if status, answer := s.send(byToken(token)); status != 400 || !strings.Contains(answer, `"code":100`) {
		t.Errorf("after a reset the token is spent: %d %s", status, answer)
	}
	testkit.Eventually(t, "the echo comes twice", func() bool {
		s.out.mu.Lock()
		defer s.out.mu.Unlock()
		n := 0
		for _, i := range s.out.webhooks {
			if i.Message != nil && i.Message.Metadata == "send-1" {
				n++
			}
		}
		return n == 2
	})
	if count := s.must("GET", "/tokens", ""); !strings.Contains(count, `{"usable":0,"spent":1,"expired":0}`) {
		t.Errorf("tokens: %s", count)
	}
}

func TestAPageThatIsTooFastIsThrottled(t *testing.T) {
	t.Parallel()
	s := start(t, "ONEBELL_SIMULATOR_TEXT_PER_SECOND", "2", "ONEBELL_SIMULATOR_THROTTLE_ERROR", "80006", "ONEBELL_SIMULATOR_REGAIN_MINUTES", "2")
	throttled := func() bool {
		_, answer, header := s.call("POST", "/v25.0/me/messages", byToken("x"), "Authorization", "Bearer "+pageToken)
		return strings.Contains(answer, `"code":80006`) && strings.Contains(header.Get("X-Business-Use-Case-Usage"), `"estimated_time_to_regain_access":2`)
	}
	testkit.Eventually(t, "more than two calls a second are refused", throttled)
	s.must("POST", "/clock/advance", `{"by":"119s"}`)
	if !throttled() {
		t.Error("the block ended early")
	}
	s.must("POST", "/clock/advance", `{"by":"121s"}`)
	if status, answer := s.send(byToken("x")); status != 400 || !strings.Contains(answer, `"code":100,"fbtrace_id"`) {
		t.Errorf("two minutes later: %d %s", status, answer)
	}
}

func TestManyOptInsAtOnce(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.must("POST", "/optins", `{"payload":"stock:A","people":300}`)
	testkit.Eventually(t, "300 opt-ins with tokens of their own", func() bool {
		s.out.mu.Lock()
		defer s.out.mu.Unlock()
		tokens := map[string]bool{}
		for _, i := range s.out.webhooks {
			tokens[i.Optin.Token] = true
		}
		return len(tokens) == 300
	})
	if count := s.must("GET", "/tokens", ""); !strings.Contains(count, `"usable":300`) {
		t.Errorf("tokens: %s", count)
	}
}

func TestThePage(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.greet()
	s.must("POST", "/people/"+ana+"/messages", `{"text":"<script>alert(1)</script>"}`)
	s.tap("stock:RAD-SHIRT-M")
	status, page, header := s.call("GET", "/?psid="+ana, "")
	if status != 200 || !strings.Contains(header.Get("Content-Security-Policy"), "default-src 'self'") {
		t.Fatalf("page: %d %v", status, header)
	}
	for _, want := range []string{
		`id="phone"`, `id="composer"`, `id="send"`, "Wine &amp; Co", `&lt;script&gt;alert(1)`,
		`id="notify-RIESLING-2024-stock"`, `id="notify-RAD-SHIRT-M-price"`, `id="notify-TICKETS-ROSE-sale"`,
		`id="restock-RAD-SHIRT-M"`, `id="soldout-RIESLING-2024"`, `id="startsale-TICKETS-ROSE"`, `class="bubble from-person"`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if !regexp.MustCompile(`id="notify-RAD-SHIRT-M-stock"[^>]* disabled>You will be notified<`).MatchString(page) {
		t.Error("the tapped card can be tapped again")
	}
	if n := strings.Count(page, ` id="notify-RIESLING-2024-stock"`); n != 1 {
		t.Errorf("%d buttons have the same id", n)
	}
	for _, other := range regexp.MustCompile(`(?:src|href)="(https?://[^"]+)"`).FindAllStringSubmatch(page, -1) {
		t.Errorf("the page fetches or links %s", other[1])
	}
	for _, path := range []string{"/static/page.css", "/static/page.js", "/static/rad-shirt-m.svg", "/phone/thread?psid=" + ana, "/phone/desk", "/phone/log", "/phone/people"} {
		if status, _, _ := s.call("GET", path, ""); status != 200 {
			t.Errorf("%s: %d", path, status)
		}
	}
}

func TestTheLivePageHearsOfChanges(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.greet()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.base+"/phone/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	s.must("POST", "/people/"+ana+"/messages", `{"text":"hi"}`)
	buf, heard := make([]byte, 4096), ""
	for !strings.Contains(heard, fmt.Sprintf("thread:%s:%s", pageID, ana)) {
		n, err := resp.Body.Read(buf)
		heard += string(buf[:n])
		if err != nil {
			t.Fatalf("%v after %q", err, heard)
		}
	}
	begun := time.Now()
	s.stop()
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("an open page held up the stop for %s", took)
	}
}
