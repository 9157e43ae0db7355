package event_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/onebell/onebell/services/alert/internal/event"
)

var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func TestReadTellsWhatIsWrongAndWhere(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 129)
	for _, c := range []struct{ body, path, reason string }{
		{`{`, "$", "not JSON"},
		{``, "$", "not JSON"},
		{`[]`, "$", "an object"},
		{`null`, "$", "an object"},
		{`{"sku":"A","stock":{}}`, "$.event_id", "missing"},
		{`{"event_id":"1","stock":{}}`, "$.sku", "missing"},
		{`{"event_id":"` + long + `","sku":"A","stock":{}}`, "$.event_id", "at most 128"},
		{`{"event_id":"1","sku":"A\u0007","stock":{}}`, "$.sku", "control"},
		{`{"event_id":"1","sku":"A","shop":"` + long + `","stock":{}}`, "$.shop", "at most 128"},
		{`{"event_id":"1","sku":"A"}`, "$", "exactly one"},
		{`{"event_id":"1","sku":"A","stock":null}`, "$", "exactly one"},
		{`{"event_id":"1","sku":"A","stock":{},"price":{}}`, "$", "stock and price"},
		{`{"event_id":7,"sku":"A","stock":{}}`, "$.event_id", "a string"},
		{`{"event_id":"1","eventId":"1","sku":"A","stock":{}}`, "$", "duplicate"},
		{`{"event_id":"1","sku":"A","sequence":"x","stock":{}}`, "$.sequence", "whole number"},
		{`{"event_id":"1","sku":"A","stock":{"available":-1}}`, "$.stock.available", "0 or more"},
		{`{"event_id":"1","sku":"A","stock":{"available":"many"}}`, "$.stock.available", "whole number"},
		{`{"event_id":"1","sku":"A","stock":{"available":1.5}}`, "$.stock.available", "whole number"},
		{`{"event_id":"1","sku":"A","stock":7}`, "$.stock", "an object"},
		{`{"event_id":"1","sku":"A","occurredAt":"yesterday","stock":{}}`, "$.occurred_at", "a time"},
		{`{"event_id":"1","sku":"A","occurred_at":"2026-11-23T10:00:01Z","stock":{}}`, "$.occurred_at", "a day in the future"},
		{`{"event_id":"1","sku":"A","price":{"currency":"EUR"}}`, "$.price.amount", "missing"},
		{`{"event_id":"1","sku":"A","price":{"amount":49.9,"currency":"EUR"}}`, "$.price.amount", "a string"},
		{`{"event_id":"1","sku":"A","price":{"amount":"0.00","currency":"EUR"}}`, "$.price.amount", "greater than 0"},
		{`{"event_id":"1","sku":"A","price":{"amount":"-1","currency":"EUR"}}`, "$.price.amount", "greater than 0"},
		{`{"event_id":"1","sku":"A","price":{"amount":"1e3","currency":"EUR"}}`, "$.price.amount", "greater than 0"},
		{`{"event_id":"1","sku":"A","price":{"amount":"1.0000001","currency":"EUR"}}`, "$.price.amount", "6 decimals"},
		{`{"event_id":"1","sku":"A","price":{"amount":"49.90"}}`, "$.price.currency", "EUR"},
		{`{"event_id":"1","sku":"A","price":{"amount":"49.90","currency":"eur"}}`, "$.price.currency", "EUR"},
		{`{"event_id":"1","sku":"A","price":{"amount":"49.90","currency":"EUR","was":"more"}}`, "$.price.was", "6 decimals"},
		{`{"event_id":"1","sku":"A","sale":{}}`, "$.sale.starts_at", "missing"},
		{`{"event_id":"1","sku":"A","sale":{"startsAt":1}}`, "$.sale.starts_at", "a time"},
		{`{"event_id":"1","sku":"A","stock":{},"product":{"url":"http://shop.example/"}}`, "$.product.url", "https"},
		{`{"event_id":"1","sku":"A","stock":{},"product":{"imageUrl":"javascript:1"}}`, "$.product.image_url", "https"},
		{`{"event_id":"1","sku":"A","stock":{},"product":{"tags":"wine"}}`, "$.product.tags", "an array"},
		{`{"event_id":"1","sku":"A","stock":{},"product":{"tags":["a","\u0000"]}}`, "$.product.tags[1]", "control"},
	} {
		_, p := event.Read("", []byte(c.body), now)
		if p == nil {
			t.Errorf("%s was read, want a problem at %s", c.body, c.path)
			continue
		}
		if p.At("$") != c.path || !strings.Contains(p.Reason, c.reason) {
			t.Errorf("%s: %s: %s, want %s: …%s…", c.body, p.At("$"), p.Reason, c.path, c.reason)
		}
	}
}

func TestReadTakesBothSpellingsAndIgnoresTheUnknown(t *testing.T) {
	t.Parallel()
	one, p := event.Read("application/json; charset=utf-8", []byte(`{"event_id":"wms-8812","shop":"s","sku":"RAD","sequence":"8812",
		"occurred_at":"2026-11-22T10:00:00Z","stock":{"available":80},"product":{"title":"Rad","image_url":"https://x.example/1"},"new":{"a":[1]}}`), now)
	if p != nil {
		t.Fatal(p)
	}
	other, p := event.Read("", []byte(`{"eventId":"wms-8812","shop":"s","sku":"RAD","sequence":8812,
		"occurredAt":"2026-11-22T11:00:00+01:00","stock":{"available":"80"},"product":{"title":"Rad","imageUrl":"https://x.example/1"}}`), now)
	if p != nil {
		t.Fatal(p)
	}
	if !proto.Equal(one, other) {
		t.Errorf("two spellings of one event differ:\n%v\n%v", one, other)
	}
	binary, err := proto.Marshal(one)
	if err != nil {
		t.Fatal(err)
	}
	if got, p := event.Read("application/protobuf", binary, now); p != nil || !proto.Equal(one, got) {
		t.Errorf("binary protobuf: %v, %v", got, p)
	}
	if _, p := event.Read("application/protobuf", []byte("{}{"), now); p == nil || p.At("$") != "$" {
		t.Errorf("bytes that are no protobuf: %v, want a problem", p)
	}
	text, err := event.JSON(one)
	if err != nil {
		t.Fatal(err)
	}
	if got, p := event.Read("", text, now); p != nil || !proto.Equal(one, got) {
		t.Errorf("what was written is read as %v, %v", got, p)
	}
}
