package topic_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/services/token/internal/topic"
)

func TestOfJSON(t *testing.T) {
	t.Parallel()
	eur := &tokenv1.Money{Amount: "49.90", Currency: "EUR"}
	for _, c := range []struct {
		payload, topic string // an empty topic: kept as custom:<payload>
		wish           *tokenv1.Wish
	}{
		{`{"topic":"stock:SKU","qty":2,"below":"49.90 EUR"}`, "stock:SKU", &tokenv1.Wish{Qty: 2, Below: eur}},
		{`{"sku":"X"}`, "stock:X", nil},
		{`{"sku":"A%20B?c"}`, "stock:A%20B?c", nil},
		{`{"sku":4471,"qty":"3"}`, "stock:4471", &tokenv1.Wish{Qty: 3}},
		{` {"topic":"price:SKU?below=49.90%20EUR","source":{"page":[1,2]}}`, "price:SKU", &tokenv1.Wish{Below: eur}},
		{`{"topic":"custom:news","sku":"ignored"}`, "custom:news", nil},
		{`{"topic":"restock","sku":"4471"}`, "", nil}, // which of the two is meant cannot be known
		{`{"topic":"price:X?qty=1","qty":2}`, "", nil},
		{`{"Topic":"stock:X"}`, "", nil},
		{`{"topic":null,"sku":"X"}`, "", nil},
		{`{"topic":["stock:X"]}`, "", nil},
		{`{"sku":""}`, "", nil},
		{`{"sku":null}`, "", nil},
		{`{"sku":1.5}`, "", nil},
		{`{"sku":-1}`, "", nil},
		{`{"sku":"a\u0000b"}`, "", nil},
		{`{"sku":"\ud800"}`, "", nil},
		{`{"sku":"` + strings.Repeat("x", 300) + `"}`, "long", nil},
		{`{"sku":"X","qty":0}`, "", nil},
		{`{"sku":"X","qty":-2}`, "", nil},
		{`{"sku":"X","qty":1.5}`, "", nil},
		{`{"sku":"X","qty":1e3}`, "", nil},
		{`{"sku":"X","qty":99999999999999999999}`, "", nil},
		{`{"sku":"X","qty":null}`, "", nil},
		{`{"sku":"X","qty":true}`, "", nil},
		{`{"sku":"X","below":"0 EUR"}`, "", nil},
		{`{"sku":"X","below":"49,90 EUR"}`, "", nil},
		{`{"sku":"X","below":49.9}`, "", nil},
		{`{"sku":"X"} x`, "", nil},
		{`{"sku":"X"`, "", nil},
		{`["stock:X"]`, "", nil},
		{`{}`, "", nil},
		{`{"a":` + strings.Repeat("[", 20000), "long", nil},
		{`{"sku":"X","pad":"` + strings.Repeat("x", 9000) + `"}`, "long", nil},
		{"{\"sku\":\"\xff\"}", "long", nil},
	} {
		got, wish := topic.Of(c.payload, rules)
		want := c.topic
		if want == "" {
			want = "custom:" + c.payload
		}
		if c.topic == "long" { // cannot stand as it is
			if !strings.HasPrefix(got, "custom:") || !strings.Contains(got, "~") || wish != nil {
				t.Errorf("Of(%.40q) = %q, %v", c.payload, got, wish)
			}
			continue
		}
		if got != want || !proto.Equal(wish, c.wish) && (wish != nil || c.wish != nil) {
			t.Errorf("Of(%q) = %q, %v, want %q, %v", c.payload, got, wish, want, c.wish)
		}
	}
}

// A rule of the operator is asked before the payload is read as JSON.
func TestARuleGoesBeforeJSON(t *testing.T) {
	t.Parallel()
	got, _ := topic.Of(`{"sku":"X"}`, func(string) (string, bool) { return "sale:own", true })
	if got != "sale:own" {
		t.Errorf("topic %q", got)
	}
}
