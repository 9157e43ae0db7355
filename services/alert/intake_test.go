package alert_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/nats-io/nats.go"

	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/pkg/testkit"
	alertv1 "github.com/onebell/onebell/proto/onebell/alert/v1"
	inventoryv1 "github.com/onebell/onebell/proto/onebell/inventory/v1"
	"github.com/onebell/onebell/proto/topology"
)

func (h *house) post(contentType, body string) (code int, answer string, header http.Header) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, h.http+"/v1/events", strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(text)), resp.Header
}

func one(id string) string {
	return fmt.Sprintf(`{"event_id":%q,"sku":"A.B","stock":{"available":0}}`, id)
}

func TestEventsOverHTTP(t *testing.T) {
	t.Parallel()
	h := open(t)
	binary, err := proto.Marshal(&inventoryv1.Event{EventId: "b1", Sku: "A", What: &inventoryv1.Event_Price{Price: &inventoryv1.Price{Amount: "1", Currency: "EUR"}}})
	if err != nil {
		t.Fatal(err)
	}
	stored := uint64(0)
	for _, c := range []struct {
		contentType, body string
		code              int
		answer            string
		stored            uint64 // messages more on INVENTORY
	}{
		{"application/json", one("1"), 202, `{"accepted":1}`, 1},
		{"application/json", one("1"), 202, `{"accepted":1}`, 0}, // known already
		{"", " [" + one("2") + "," + one("3") + "]", 202, `{"accepted":2}`, 2},
		{"", `[]`, 202, `{"accepted":0}`, 0},
		// One id for all lines of a delivery.
		{"", `[{"event_id":"d","sku":"A","stock":{"available":1}},{"event_id":"d","sku":"B","stock":{"available":1}}]`, 202, `{"accepted":2}`, 2},
		{"", `[{"event_id":"d","sku":"A","stock":{"available":1}},{"event_id":"d","sku":"A","price":{"amount":"5","currency":"EUR"}}]`, 202, `{"accepted":2}`, 1},
		{"application/json", `{"eventId":"4","sku":"A","sale":{"startsAt":"2026-12-01T09:00:00Z"},"more":1}`, 202, `{"accepted":1}`, 1},
		{
			"application/json", "[" + one("5") + `,{"event_id":"6","sku":"A","stock":{"available":"x"}},` + one("7") + `,8]`, 400,
			`{"accepted":2,"rejected":[{"index":1,"path":"$[1].stock.available","reason":"expected a whole number, as a number or a string"},{"index":3,"path":"$[3]","reason":"expected an object"}]}`, 2,
		},
		{
			"application/json", `{"event_id":"8","sku":"A","stock":{"available":-1}}`, 400,
			`{"accepted":0,"rejected":[{"index":0,"path":"$.stock.available","reason":"-1, expected 0 or more"}]}`, 0,
		},
		{"application/json", `{"event_id":`, 400, `{"accepted":0,"rejected":[{"index":0,"path":"$","reason":"not JSON"}]}`, 0},
		{"application/json", `[{]`, 400, `{"accepted":0,"rejected":[{"index":0,"path":"$","reason":"not JSON"}]}`, 0},
		{"application/protobuf", string(binary), 202, `{"accepted":1}`, 1},
		{"application/protobuf", "{}", 400, `{"accepted":0,"rejected":[{"index":0,"path":"$","reason":"not a onebell.inventory.v1.Event in binary protobuf"}]}`, 0},
	} {
		code, answer, _ := h.post(c.contentType, c.body)
		if code != c.code || answer != c.answer {
			t.Errorf("%.80s: %d %s, want %d %s", c.body, code, answer, c.code, c.answer)
		}
		if stored += c.stored; h.count(topology.Inventory) != stored {
			t.Errorf("%.80s: %d messages stored, want %d", c.body, h.count(topology.Inventory), stored)
		}
	}
	if code, _, _ := h.post("application/json", strings.Repeat(" ", 4<<20)+one("9")); code != http.StatusRequestEntityTooLarge {
		t.Errorf("a body over 4 MiB: %d, want 413", code)
	}
	s, err := h.js.Stream(t.Context(), topology.Inventory)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := s.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if body := new(bytes.Buffer); json.Compact(body, msg.Data) != nil || msg.Subject != "inventory.stock.A_B" || body.String() != `{"event_id":"1","sku":"A.B","stock":{}}` {
		t.Errorf("%s: %s", msg.Subject, msg.Data)
	}
}

func TestABodyThatIsCutShortIsNotAnsweredAsStored(t *testing.T) {
	t.Parallel()
	h := open(t)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(h.http, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /v1/events HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("%s, want 400", resp.Status)
	}
}

func TestEventsOverGRPC(t *testing.T) {
	t.Parallel()
	h := open(t)
	good := &inventoryv1.Event{EventId: "1", Sku: "A", What: &inventoryv1.Event_Stock{Stock: &inventoryv1.Stock{}}}
	answer, err := h.client.PublishEvents(t.Context(), &alertv1.PublishEventsRequest{Events: []*inventoryv1.Event{good, good}})
	if err != nil || answer.GetAccepted() != 2 {
		t.Fatalf("%v, %v, want 2 accepted", answer, err)
	}
	_, err = h.client.PublishEvents(t.Context(), &alertv1.PublishEventsRequest{Events: []*inventoryv1.Event{
		{EventId: "2", Sku: "A", What: &inventoryv1.Event_Stock{Stock: &inventoryv1.Stock{Available: -1}}},
		{EventId: "3", Sku: "A", What: good.GetWhat()},
		{Sku: "A"},
	}})
	if got := violations(err); got != "events[0].stock.available events[2].event_id" {
		t.Errorf("violations %q (%v)", got, err)
	}
	if n := h.count(topology.Inventory); n != 2 {
		t.Errorf("%d messages stored, want the two good ones", n)
	}
	_, err = h.client.PublishEvents(t.Context(), &alertv1.PublishEventsRequest{Events: make([]*inventoryv1.Event, 10_001)})
	if got := violations(err); got != "events" {
		t.Errorf("too many: %q (%v)", got, err)
	}
}

// violations are the fields that a BadRequest names.
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

func TestAnUnreadableEventOverNATSIsKeptWithItsReason(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.publish("stock", `"event_id":"1","sku":"A","stock":{"available":"many"}`)
	binary, err := proto.Marshal(&inventoryv1.Event{EventId: "2", Sku: "A", What: &inventoryv1.Event_Stock{Stock: &inventoryv1.Stock{Available: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	msg := nats.NewMsg("inventory.stock.A")
	msg.Data = binary
	msg.Header.Set("Content-Type", "application/protobuf")
	if _, err := h.js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the dead letter", func() bool { return h.count(topology.Dead) == 1 })
	h.settled()
	s, err := h.js.Stream(t.Context(), topology.Dead)
	if err != nil {
		t.Fatal(err)
	}
	dead, err := s.GetLastMsgForSubject(t.Context(), "dead.inventory")
	if err != nil {
		t.Fatal(err)
	}
	if dead.Header.Get(stream.HeaderReason) != "bad_event" || !strings.HasPrefix(dead.Header.Get(stream.HeaderDetail), "$.stock.available: ") || !strings.Contains(string(dead.Data), `"many"`) {
		t.Errorf("dead letter: %v %s", dead.Header, dead.Data)
	}
	// The one behind it was read.
	kv, err := h.js.KeyValue(t.Context(), topology.Products)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Get(t.Context(), topology.ProductKey("default", "A")); err != nil {
		t.Errorf("the good event behind it: %v", err)
	}
}

func TestEventsThatCannotBeStoredAreRefused(t *testing.T) {
	t.Parallel()
	h := open(t)
	if err := h.js.DeleteStream(t.Context(), topology.Inventory); err != nil {
		t.Fatal(err)
	}
	code, _, header := h.post("application/json", one("1"))
	if code != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
		t.Errorf("%d, Retry-After %q, want 503 with one", code, header.Get("Retry-After"))
	}
}
