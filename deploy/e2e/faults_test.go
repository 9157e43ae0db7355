package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/onebell/onebell/deploy/e2e/rig"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/topology"
)

const spent = tokenv1.PermissionState_PERMISSION_STATE_SPENT

// The Send API refuses connections for a while: the message goes out afterwards, once.
func TestSendAPIDown(t *testing.T) {
	t.Parallel()
	graph := rig.NewGraph(t)
	m := rig.NewMachine(t, rig.Options{Graph: graph})
	m.Tap(page, "anna", rig.Token("anna"), "stock:RIESLING")
	graph.Down()
	m.Stock(page, "wms-1", "RIESLING", 5)
	rig.Eventually(t, "a try is written down", func() bool { return len(m.Messages(topology.Tries, ">")) > 0 })
	graph.Up()
	graph.Await(1)
	m.AwaitState(page, "anna", rig.Token("anna"), spent)
	m.Quiet()
	if n := len(graph.Calls()); n != 1 {
		t.Errorf("%d calls, expected 1", n)
	}
}

// What may or may not have been sent is tried again with the same token and the same send id. Where the platform then says
// that the token was used, the message is known to have arrived.
func TestUnclearAnswers(t *testing.T) {
	t.Parallel()
	graph := rig.NewGraph(t)
	m := rig.NewMachine(t, rig.Options{Graph: graph, Settings: map[string]string{"ONEBELL_GRAPH_TIMEOUT": "1s"}})
	first := map[string]rig.Reply{
		rig.Token("broken"):  {Status: http.StatusInternalServerError, Body: "<html>oops</html>"},
		rig.Token("rubbish"): {Status: http.StatusOK, Body: "{}"},
		rig.Token("code-2"):  rig.Refuse(http.StatusBadRequest, 2, 0),
		rig.Token("silent"):  {Hang: true}, // accepted, but nobody hears of it
	}
	graph.Answer(func(_ int, c rig.Call) rig.Reply {
		reply := first[c.Token()]
		delete(first, c.Token())
		return reply
	})
	people := []string{"broken", "rubbish", "code-2", "silent"}
	for _, psid := range people {
		m.Tap(page, psid, rig.Token(psid), "stock:RIESLING")
	}
	m.Stock(page, "wms-1", "RIESLING", 50)
	for _, psid := range people {
		m.AwaitState(page, psid, rig.Token(psid), spent)
		calls := graph.Of(rig.Token(psid))
		if len(calls) != 2 || calls[0].Body.Message.Metadata != calls[1].Body.Message.Metadata {
			t.Errorf("%s: %d calls, expected 2 of one send", psid, len(calls))
		}
		want := []string{"unclear", "sent"}
		if psid == "silent" {
			want[1] = "sent_before"
		}
		if got := m.Verdicts(page, psid, rig.Token(psid)); !slices.Equal(got, want) {
			t.Errorf("%s: verdicts %v, expected %v", psid, got, want)
		}
	}
}

// An invalid-token answer to a first try: the token is void, and nobody asks again.
func TestInvalidToken(t *testing.T) {
	t.Parallel()
	graph := rig.NewGraph(t)
	graph.Answer(func(int, rig.Call) rig.Reply { return rig.Refuse(http.StatusBadRequest, 100, 0) })
	m := rig.NewMachine(t, rig.Options{Graph: graph})
	m.Tap(page, "anna", rig.Token("anna"), "stock:RIESLING")
	m.Stock(page, "wms-1", "RIESLING", 5)
	m.AwaitState(page, "anna", rig.Token("anna"), tokenv1.PermissionState_PERMISSION_STATE_VOID)
	m.Quiet()
	if got := m.Verdicts(page, "anna", rig.Token("anna")); len(graph.Calls()) != 1 || !slices.Equal(got, []string{"token_invalid"}) {
		t.Errorf("%d calls, verdicts %v", len(graph.Calls()), got)
	}
}

// The platform refuses the page's access token: the page stops, its people lose nothing, another page is not concerned, and
// a new access token in pages.yaml goes on with the work.
func TestAccessTokenRefused(t *testing.T) {
	t.Parallel()
	graph := rig.NewGraph(t)
	renewed, other := page.At(20), rig.Page{ID: "777", Shop: "tickets", AccessToken: "EAAB-other", AppSecret: page.AppSecret, VerifyToken: page.VerifyToken}
	renewed.AccessToken = "EAAB-page-access-token-renewed"
	graph.Answer(func(_ int, c rig.Call) rig.Reply {
		if c.Header.Get("Authorization") == "Bearer "+page.AccessToken {
			return rig.Refuse(http.StatusBadRequest, 190, 463)
		}
		return rig.Reply{}
	})
	m := rig.NewMachine(t, rig.Options{Graph: graph, Pages: []rig.Page{page.At(20), other}})
	m.Crowd(page, "guest", 60, "stock:RIESLING")
	m.Tap(other, "fan", rig.Token("fan"), "stock:TICKET-7")
	m.Stock(page, "wms-1", "RIESLING", 500)
	rig.Eventually(t, "the page was refused", func() bool { return len(graph.Calls()) > 0 })
	m.Stock(other, "box-1", "TICKET-7", 5)
	graph.Await(1) // the other page's
	// Calls that were on their way when the answer came are let through; a second's worth would be all of the pace.
	rig.Steady(t, "calls of a page whose token is refused", 3*time.Second, func() int { return len(graph.Calls()) })
	if n := len(graph.Calls()); n > 1+10 {
		t.Errorf("%d calls in all, although the first of the page was refused", n)
	}

	m.SetPages(renewed, other)
	graph.Await(1 + 60)
	rig.Eventually(t, "all are spent", func() bool { return m.Count(page.ID, "stock:RIESLING").GetSpent() == 60 })
	for _, c := range graph.Accepted() {
		if auth := c.Header.Get("Authorization"); auth != "Bearer "+renewed.AccessToken && auth != "Bearer "+other.AccessToken {
			t.Errorf("accepted with %q", auth)
		}
	}
}

// The permitted pace is kept, give or take one, and used.
func TestPace(t *testing.T) {
	t.Parallel()
	const rate, people = 20, 60
	graph := rig.NewGraph(t)
	m := rig.NewMachine(t, rig.Options{Graph: graph, Pages: []rig.Page{page.At(rate)}})
	m.Crowd(page, "guest", people, "stock:RIESLING")
	m.Stock(page, "wms-1", "RIESLING", 500)
	calls := graph.Await(people)
	for i := range calls {
		in := 0
		for _, c := range calls[i:] {
			if c.At.Sub(calls[i].At) < time.Second {
				in++
			}
		}
		if in > rate+1 {
			t.Errorf("%d calls within a second from call %d on, %d are permitted", in, i, rate)
		}
	}
	span := calls[people-1].At.Sub(calls[0].At)
	used := float64(people-1) / span.Seconds() / rate
	t.Logf("%d calls in %s: %.0f %% of the pace", people, span, 100*used)
	if used < 0.9 {
		t.Errorf("%.0f %% of the pace was used, expected at least 90 %%", 100*used)
	}
}

// Redis goes away and comes back with nothing: the token service is not ready meanwhile, webhooks and events are still
// taken, and afterwards everybody gets the message.
func TestRedisDown(t *testing.T) {
	t.Parallel()
	graph := rig.NewGraph(t)
	addr := rig.FreeAddr(t)
	redis := rig.Redis(t, addr)
	m := rig.NewMachine(t, rig.Options{Graph: graph, Settings: map[string]string{"ONEBELL_REDIS_URL": redis.URL()}})
	if m.Addr.Redis != redis.URL() {
		t.Errorf("the ready file names Redis %s, in use is %s", m.Addr.Redis, redis.URL())
	}
	m.Crowd(page, "early", 5, "stock:RIESLING")
	m.Crowd(page, "other", 5, "stock:RAD-SHIRT-M")
	m.Stock(page, "wms-1", "RAD-SHIRT-M", 5)
	graph.Await(5)
	m.Quiet()
	before := m.Count(page.ID, "stock:RAD-SHIRT-M")

	redis.Stop()
	rig.Eventually(t, "not ready without Redis", func() bool { return !rig.Ready(t, m.Addr.Admin) })
	m.Webhook(page, rig.Optin(page.ID, "late", rig.Token("late"), "stock:RIESLING"))
	m.Stock(page, "wms-2", "RIESLING", 5)

	rig.Redis(t, addr)
	rig.Eventually(t, "ready again", func() bool { return rig.Ready(t, m.Addr.Admin) })
	for i := range 5 {
		m.AwaitState(page, fmt.Sprintf("early-%d", i), rig.Token(fmt.Sprintf("early-%d", i)), spent)
	}
	m.AwaitPermission(page, "late", rig.Token("late"))
	if after := m.Count(page.ID, "stock:RAD-SHIRT-M"); after.String() != before.String() {
		t.Errorf("counts before: %v, after: %v", before, after)
	}
	m.Quiet()
	for _, c := range graph.Calls() {
		if n := len(graph.Of(c.Token())); n != 1 {
			t.Errorf("%d calls with one token", n)
		}
	}
}

// JetStream goes away: the platform is asked to repeat, and what it repeats is stored once.
func TestJetStreamDown(t *testing.T) {
	t.Parallel()
	graph := rig.NewGraph(t)
	addr, dir := rig.FreeAddr(t), t.TempDir()
	server := rig.NATSIn(t, addr, dir)
	m := rig.NewMachine(t, rig.Options{Graph: graph, Settings: map[string]string{"ONEBELL_NATS_URL": server.URL()}})
	m.Tap(page, "anna", rig.Token("anna"), "stock:RIESLING")
	server.Stop()
	body := rig.Body(page.ID, rig.Optin(page.ID, "ben", rig.Token("ben"), "stock:RIESLING"))
	if got := m.Post(body, page.Sign(body)); got != http.StatusServiceUnavailable {
		t.Errorf("webhook without JetStream: %d, expected 503", got)
	}
	if code, answer := m.PublishHTTP(`{"event_id":"wms-0","sku":"HAT","stock":{"available":1}}`); code == http.StatusAccepted {
		t.Errorf("event without JetStream: %d %s", code, answer)
	}
	rig.NATSIn(t, addr, dir)
	rig.Eventually(t, "the repeat is answered 200", func() bool { return m.Post(body, page.Sign(body)) == http.StatusOK })
	m.AwaitPermission(page, "ben", rig.Token("ben"))
	// Each program finds the server again in its own time; a publisher that is answered 503 publishes again.
	rig.Eventually(t, "the event is accepted", func() bool {
		code, _ := m.PublishHTTP(fmt.Sprintf(`{"event_id":"wms-1","shop":%q,"sku":"RIESLING","stock":{"available":5},%s}`, page.Shop, rig.Product("RIESLING")))
		return code == http.StatusAccepted
	})
	graph.Await(2)
	m.Quiet()
	if n := len(graph.Calls()); n != 2 {
		t.Errorf("%d calls, expected 2", n)
	}
	if n := len(m.Messages(topology.Optins, ">")); n != 2 {
		t.Errorf("%d opt-ins stored, expected 2", n)
	}
}
