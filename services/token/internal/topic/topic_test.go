package topic_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/services/token/internal/topic"
)

func rules(payload string) (string, bool) {
	if sku, ok := strings.CutPrefix(payload, "NOTIFY_"); ok {
		return "stock:" + sku, true
	}
	return "", false
}

func TestOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		payload, topic string
		wish           *tokenv1.Wish
	}{
		{"stock:RAD-SHIRT-M", "stock:RAD-SHIRT-M", nil},
		{"stock:RAD-SHIRT-M?qty=2", "stock:RAD-SHIRT-M", &tokenv1.Wish{Qty: 2}},
		{"price:SKU?below=49.90%20EUR", "price:SKU", &tokenv1.Wish{Below: &tokenv1.Money{Amount: "49.90", Currency: "EUR"}}},
		{"price:SKU", "price:SKU", nil},
		{"sale:A%20B?later=x", "sale:A B", nil},
		{"custom:newsletter", "custom:newsletter", nil},
		{"stock:a:b", "stock:a:b", nil},
		{"NOTIFY_X-1", "stock:X-1", nil},
		{"restock:sku-4471:size-m", "custom:restock:sku-4471:size-m", nil},
		{"", "custom:", nil},
		{"stock:", "custom:stock:", nil},
		{"stock:X?qty=0", "custom:stock:X?qty=0", nil},
		{"stock:X?qty=-1", "custom:stock:X?qty=-1", nil},
		{"stock:X?qty=99999999999999999999", "custom:stock:X?qty=99999999999999999999", nil},
		{"price:X?below=0%20EUR", "custom:price:X?below=0%20EUR", nil},
		{"price:X?below=1e9%20EUR", "custom:price:X?below=1e9%20EUR", nil},
		{"stock:%zz", "custom:stock:%zz", nil},
	} {
		got, wish := topic.Of(c.payload, rules)
		if got != c.topic || !proto.Equal(wish, c.wish) && (wish != nil || c.wish != nil) {
			t.Errorf("Of(%q) = %q, %v, want %q, %v", c.payload, got, wish, c.topic, c.wish)
		}
	}
}

func FuzzOf(f *testing.F) {
	for _, seed := range []string{
		"stock:X?qty=2", "a\x00b", "\xff\xfe", strings.Repeat("é", 400), "price:x?below=1 EUR", "custom:\n",
		`{"topic":"stock:SKU","qty":2,"below":"49.90 EUR"}`, `{"sku":"X"}`, `{"sku":"\ud800"}`, `{"sku":4471,"qty":1e99}`, `{"topic":"price:A?below=1%20EUR"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		got, _ := topic.Of(payload, rules)
		if len(got) > topic.MaxLen || !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) {
			t.Errorf("Of(%q) = %q", payload, got)
		}
		if kind, _, ok := strings.Cut(got, ":"); !ok || !strings.Contains("stock price sale custom", kind) {
			t.Errorf("Of(%q) = %q: no topic", payload, got)
		}
	})
}

func TestDifferentPayloadsNeverShareATopic(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 400)
	seen := map[string]string{}
	for _, p := range []string{long + "1", long + "2", "a\x00b", "a\x01b", "a_b", "\xff", "\xfe"} {
		got, _ := topic.Of(p, rules)
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q share %q", p, other, got)
		}
		seen[got] = p
	}
}
