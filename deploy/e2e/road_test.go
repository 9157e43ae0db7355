package e2e_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/onebell/onebell/deploy/e2e/rig"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
)

// One opt-in, one bell: the exact call, and nothing at the second restock.
func TestOneOptInOneMessage(t *testing.T) {
	t.Parallel()
	graph := rig.NewGraph(t)
	m := rig.NewMachine(t, rig.Options{Graph: graph})
	m.Tap(page, "anna", rig.Token("anna"), "stock:RIESLING")
	m.Stock(page, "wms-1", "RIESLING", 80)

	call := graph.Await(1)[0]
	if call.Path != "/v25.0/"+page.ID+"/messages" {
		t.Errorf("path %s", call.Path)
	}
	if got := call.Header.Get("Authorization"); got != "Bearer "+page.AccessToken {
		t.Errorf("Authorization %q", got)
	}
	if got := slices.Concat(call.Query["appsecret_proof"], []string{call.Body.Proof})[0]; got != page.Proof() {
		t.Errorf("appsecret_proof %q, expected %q", got, page.Proof())
	}
	if _, inURL := call.Query["access_token"]; inURL {
		t.Error("the access token stands in the address, where logs keep it")
	}
	if call.Token() != rig.Token("anna") || call.Body.Recipient.ID != "" {
		t.Errorf("recipient %+v", call.Body.Recipient)
	}
	if want := page.SendID("anna", rig.Token("anna"), "stock:RIESLING", "wms-1"); call.Body.Message.Metadata != want {
		t.Errorf("metadata %q, expected the send id %q", call.Body.Message.Metadata, want)
	}

	m.AwaitState(page, "anna", rig.Token("anna"), tokenv1.PermissionState_PERMISSION_STATE_SPENT)
	m.Stock(page, "wms-1", "RIESLING", 80) // the same event again
	m.Stock(page, "wms-2", "RIESLING", 0)
	m.Stock(page, "wms-3", "RIESLING", 40)
	m.Quiet()
	if calls := graph.Calls(); len(calls) != 1 {
		t.Errorf("%d calls after the second restock, expected 1", len(calls))
	}
	if c := m.Count(page.ID, "stock:RIESLING"); c.GetSpent() != 1 || c.GetWaiting()+c.GetGranted()+c.GetUnknown()+c.GetVoid() != 0 {
		t.Errorf("counts: %v", c)
	}
	if got := m.Verdicts(page, "anna", rig.Token("anna")); !slices.Equal(got, []string{"sent"}) {
		t.Errorf("verdicts: %v", got)
	}
}

// Who likes what is told by taps and over gRPC; each gets the words of the own segment.
func TestWordsBySegment(t *testing.T) {
	t.Parallel()
	graph := rig.NewGraph(t)
	m := rig.NewMachine(t, rig.Options{Graph: graph})
	m.Like(page, "anna", "white-wine")
	res, err := m.Token.TagPerson(t.Context(), &tokenv1.TagPersonRequest{PageId: page.ID, Psid: "ben", Add: []string{"red-wine"}})
	if err != nil || !slices.Contains(res.GetPerson().GetTags(), "red-wine") {
		t.Fatalf("TagPerson: %v, %v", res, err)
	}
	for _, psid := range []string{"anna", "ben", "cleo"} {
		m.Tap(page, psid, rig.Token(psid), "NOTIFY_RIESLING") // a payload of another form, mapped by the rules
	}
	m.Stock(page, "wms-1", "RIESLING", 80)
	graph.Await(3)

	link := "https://shop.example/p/RIESLING"
	for _, c := range []struct {
		psid, text string
		buttons    []rig.Button
	}{
		{"anna", "The RIESLING is back, and it goes well with oysters. 80 left.", []rig.Button{{Type: "web_url", URL: link, Title: "Buy now"}}},
		{"ben", "The RIESLING is back, for long evenings.", nil},
		{"cleo", "The RIESLING is back in stock.", []rig.Button{{Type: "web_url", URL: link, Title: "Have a look"}}},
	} {
		calls := graph.Of(rig.Token(c.psid))
		if len(calls) != 1 {
			t.Errorf("%s got %d messages", c.psid, len(calls))
			continue
		}
		message := calls[0].Body.Message
		if calls[0].Text() != c.text {
			t.Errorf("%s read %q, expected %q", c.psid, calls[0].Text(), c.text)
		}
		if c.buttons == nil {
			if message.Attachment != nil {
				t.Errorf("%s: a message without buttons is a plain text, got %s", c.psid, calls[0].Raw)
			}
			continue
		}
		if a := message.Attachment; a == nil || message.Text != "" || a.Type != "template" || a.Payload.TemplateType != "button" || !slices.Equal(a.Payload.Buttons, c.buttons) {
			t.Errorf("%s: not the button template: %s", c.psid, calls[0].Raw)
		}
	}
}

// A permission is for one product: three products asked for are three messages, each for its own restock.
func TestThreeProductsThreeMessages(t *testing.T) {
	t.Parallel()
	graph := rig.NewGraph(t)
	m := rig.NewMachine(t, rig.Options{Graph: graph})
	skus := []string{"RIESLING", "RAD-SHIRT-M", "TICKET-7"}
	for _, sku := range skus {
		m.Tap(page, "dora", rig.Token("dora-"+sku), "stock:"+sku)
	}
	for i, sku := range skus {
		m.Stock(page, "wms-"+sku, sku, 5)
		got := graph.Await(i + 1)[i]
		if got.Token() != rig.Token("dora-"+sku) || got.Text() != "The "+sku+" is back in stock." {
			t.Errorf("%s: %q with %q", sku, got.Text(), got.Token())
		}
	}
	m.Quiet()
	if n := len(graph.Calls()); n != 3 {
		t.Errorf("%d calls, expected 3", n)
	}
	for _, sku := range skus {
		if c := m.Count(page.ID, "stock:"+sku); c.GetSpent() != 1 || c.GetWaiting() != 0 {
			t.Errorf("%s: %v", sku, c)
		}
	}
}

// The platform's check of the webhook address.
func TestVerification(t *testing.T) {
	t.Parallel()
	m := rig.NewMachine(t, rig.Options{Graph: rig.NewGraph(t)})
	for _, c := range []struct {
		query, body string
		status      int
	}{
		{"hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=" + page.VerifyToken, "1158201444", http.StatusOK},
		{"hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=guess", "", http.StatusForbidden},
	} {
		status, body := m.Get(m.Addr.Webhook + "?" + c.query)
		if status != c.status || c.body != "" && string(body) != c.body {
			t.Errorf("%s: %d %q", c.query, status, body)
		}
	}
}
