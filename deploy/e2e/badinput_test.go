package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onebell/onebell/deploy/e2e/rig"
	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/proto/ids"
	inventoryv1 "github.com/onebell/onebell/proto/onebell/inventory/v1"
	"github.com/onebell/onebell/proto/topology"
)

// A body that is not signed by an app of ours is refused and leaves no trace in any stream.
func TestWrongSignature(t *testing.T) {
	t.Parallel()
	m := rig.NewMachine(t, rig.Options{Graph: rig.NewGraph(t)})
	body := rig.Body(page.ID, rig.Optin(page.ID, "anna", rig.Token("anna"), "stock:RIESLING"))
	stranger := rig.Page{AppSecret: "of-another-app"}
	for name, signature := range map[string]string{
		"none": "", "malformed": "sha256=nonsense", "of another app": stranger.Sign(body),
		"of another body": page.Sign(append([]byte(" "), body...)), "not the scheme": strings.TrimPrefix(page.Sign(body), "sha256="),
	} {
		if got := m.Post(body, signature); got != http.StatusForbidden {
			t.Errorf("signature %s: %d, expected 403", name, got)
		}
	}
	for _, s := range []string{topology.Optins, topology.Events, topology.Dead} {
		if n := len(m.Messages(s, ">")); n != 0 {
			t.Errorf("%d messages in %s, expected none", n, s)
		}
	}
	if got := m.Post(body, page.Sign(body)); got != http.StatusOK {
		t.Errorf("rightly signed: %d", got)
	}
}

// A refusal would make the platform repeat and, in the end, unsubscribe the page: what cannot be read is taken and kept.
func TestUnreadableWebhook(t *testing.T) {
	t.Parallel()
	m := rig.NewMachine(t, rig.Options{Graph: rig.NewGraph(t)})
	bodies := []string{`{"object":"page","entry":[`, `[1,2]`, `{"object":"page","entry":"none"}`}
	for _, body := range bodies {
		if got := m.Post([]byte(body), page.Sign([]byte(body))); got != http.StatusOK {
			t.Errorf("%s: %d, expected 200", body, got)
		}
	}
	dead := m.Messages(topology.Dead, topology.DeadWebhooks)
	if len(dead) != len(bodies) {
		t.Fatalf("%d dead letters, expected %d", len(dead), len(bodies))
	}
	for i, msg := range dead {
		if string(msg.Data) != bodies[i] || msg.Header.Get(stream.HeaderReason) == "" || msg.Header.Get(stream.HeaderFailedAt) == "" {
			t.Errorf("dead letter: %q %v", msg.Data, msg.Header)
		}
	}
}

// Kinds that nobody knows yet, and people of pages that nobody configured yet, are stored whole.
func TestUnknownKindAndPage(t *testing.T) {
	t.Parallel()
	graph := rig.NewGraph(t)
	m := rig.NewMachine(t, rig.Options{Graph: graph})
	novelty := `{"sender":{"id":"anna"},"recipient":{"id":"` + page.ID + `"},"timestamp":1782900000000, "sparkle":{"n":1.50}}`
	// Written by hand: the bytes of the element must survive.
	body := `{"object":"page","entry":[{"id":"` + page.ID + `","time":1782900000350,"messaging":[` + novelty + `]}]}`
	if got := m.Post([]byte(body), page.Sign([]byte(body))); got != http.StatusOK {
		t.Fatalf("unknown kind: %d", got)
	}
	stored := m.Messages(topology.Events, topology.EventSubject(page.ID, "anna", "unknown"))
	if len(stored) != 1 || string(stored[0].Data) != novelty || stored[0].Header.Get(topology.HeaderKind) != "unknown" {
		t.Errorf("unknown kind: stored %d: %+v", len(stored), stored)
	}

	later := page
	later.ID, later.Shop = "555", "another-shop"
	elsewhere := rig.Body(later.ID, rig.Optin(later.ID, "ben", rig.Token("ben"), "stock:RIESLING"))
	if got := m.Post(elsewhere, page.Sign(elsewhere)); got != http.StatusOK {
		t.Fatalf("unknown page: %d", got)
	}
	msg := m.AwaitMessage(topology.Optins, topology.OptinSubject(later.ID, "ben"))
	if msg.Header.Get(topology.HeaderPage) != later.ID {
		t.Errorf("unknown page: headers %v", msg.Header)
	}
	m.SetPages(page, later)
	m.AwaitPermission(later, "ben", rig.Token("ben"))
	// The alert service sees the new file within seconds, and events until then are not for this page.
	tries := 0
	rig.Eventually(t, "a restock reaches the new page", func() bool {
		tries++
		m.Stock(later, fmt.Sprintf("out-%d", tries), "RIESLING", 0)
		m.Stock(later, fmt.Sprintf("in-%d", tries), "RIESLING", 5)
		m.Quiet()
		return len(graph.Accepted()) > 0
	})
}

// An inventory event that cannot be read is refused with the place and the reason, by each door in its own way; the rest
// of its batch goes on.
func TestUnreadableInventoryEvent(t *testing.T) {
	t.Parallel()
	graph := rig.NewGraph(t)
	m := rig.NewMachine(t, rig.Options{Graph: graph})
	m.Tap(page, "anna", rig.Token("anna"), "stock:RIESLING")

	code, answer := m.PublishHTTP(`[{"event_id":"a","shop":"` + page.Shop + `","sku":"HAT","stock":{"available":1}},
		{"event_id":"b","shop":"` + page.Shop + `","sku":"RIESLING","stock":{"available":"many"}},
		{"event_id":"c","shop":"` + page.Shop + `","sku":"RIESLING","stock":{"available":3},` + rig.Product("RIESLING") + `}]`)
	var said struct {
		Accepted int `json:"accepted"`
		Rejected []struct {
			Index  int    `json:"index"`
			Path   string `json:"path"`
			Reason string `json:"reason"`
		} `json:"rejected"`
	}
	if err := json.Unmarshal(answer, &said); err != nil {
		t.Fatalf("HTTP: %v: %s", err, answer)
	}
	if code != http.StatusBadRequest || said.Accepted != 2 || len(said.Rejected) != 1 || said.Rejected[0].Index != 1 ||
		said.Rejected[0].Path != "$[1].stock.available" || said.Rejected[0].Reason == "" {
		t.Errorf("HTTP: %d %s", code, answer)
	}
	graph.Await(1) // the good element beside the bad one did its work

	if code, answer := m.PublishHTTP(`{"event_id":`); code != http.StatusBadRequest || !strings.Contains(string(answer), `"accepted":0`) {
		t.Errorf("HTTP, not JSON: %d %s", code, answer)
	}

	err := m.PublishGRPC(&inventoryv1.Event{EventId: "d", Sku: "HAT", What: &inventoryv1.Event_Stock{Stock: &inventoryv1.Stock{Available: -1}}})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(violations(err), "stock.available") {
		t.Errorf("gRPC: %v, violations %q", err, violations(err))
	}

	m.PublishNATS("inventory.stock.HAT", `{"event_id":"e","sku":"HAT"}`, nil)
	msg := m.AwaitMessage(topology.Dead, topology.DeadSubject(topology.Inventory))
	if string(msg.Data) != `{"event_id":"e","sku":"HAT"}` || msg.Header.Get(stream.HeaderReason) == "" ||
		msg.Header.Get(stream.HeaderDetail) == "" || msg.Header.Get(stream.HeaderSubject) != "inventory.stock.HAT" {
		t.Errorf("NATS: %q %v", msg.Data, msg.Header)
	}
}

func violations(err error) string {
	var fields []string
	for _, d := range status.Convert(err).Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range bad.GetFieldViolations() {
				fields = append(fields, v.GetField())
			}
		}
	}
	return strings.Join(fields, " ")
}

// The id of a permission is the same for a webhook that the platform delivers twice: one permission, one message.
func TestWebhookDeliveredTwice(t *testing.T) {
	t.Parallel()
	graph := rig.NewGraph(t)
	m := rig.NewMachine(t, rig.Options{Graph: graph})
	body := rig.Body(page.ID, rig.Optin(page.ID, "anna", rig.Token("anna"), "stock:RIESLING"))
	for range 3 {
		if got := m.Post(body, page.Sign(body)); got != http.StatusOK {
			t.Fatal(got)
		}
	}
	m.AwaitPermission(page, "anna", rig.Token("anna"))
	m.Quiet()
	if c := m.Count(page.ID, "stock:RIESLING"); c.GetWaiting() != 1 {
		t.Errorf("counts: %v", c)
	}
	m.Stock(page, "wms-1", "RIESLING", 5)
	call := graph.Await(1)[0]
	m.Quiet()
	if n := len(graph.Calls()); n != 1 {
		t.Errorf("%d calls", n)
	}
	if want := ids.Send(ids.Alert(page.Shop, "stock:RIESLING", "wms-1"), ids.Permission(page.ID, "anna", rig.Token("anna"))); call.Body.Message.Metadata != want {
		t.Errorf("metadata %q, expected %q", call.Body.Message.Metadata, want)
	}
}
