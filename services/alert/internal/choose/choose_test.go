package choose_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onebell/onebell/proto/ids"
	inventoryv1 "github.com/onebell/onebell/proto/onebell/inventory/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/proto/rules"
	"github.com/onebell/onebell/proto/verdict"
	"github.com/onebell/onebell/services/alert/internal/choose"
)

const words = `
segments:
  white-wine: "'white-wine' in person.tags"
  french: "person.locale.startsWith('fr') && person.timezone == 'Europe/Paris'"
alerts:
  - topic: stock
    min_available: 2
    messages:
      - {segment: white-wine, text: "{{.product.title}} is back, and it goes well with oysters. {{.available}} left."}
      - {text: "{{.product.title}} is back in stock.", buttons: [{url: "{{.product.url}}", title: "Buy now"}]}
  - topic: price
    min_drop_percent: 5
    messages:
      - {text: "{{.sku}} of {{.shop}}: {{.price.amount}} {{.price.currency}} instead of {{.price.was}}{{with .wish}}, you asked for {{.below}}{{end}}"}
  - topic: sale
    messages:
      - {segment: french, text: "{{.product.title}} : soldes ({{.person.locale}})"}
      - {text: "{{.product.title}} from {{.starts_at}} for {{.person.locale}}"}
`

func offer(t *testing.T, kind string) choose.Offer {
	t.Helper()
	r, err := rules.Parse([]byte(words))
	if err != nil {
		t.Fatal(err)
	}
	rule, _ := r.Alert(kind)
	o := choose.Offer{
		Rule: rule, Alert: &inventoryv1.Alert{AlertId: "a1", Topic: kind + ":RAD"},
		Product: &inventoryv1.ProductState{
			Shop: "s", Sku: "RAD", Product: &inventoryv1.Product{Title: "Rad shirt", Url: "https://shop.example/p/1"},
			Stock: &inventoryv1.StockState{Available: 10},
		},
	}
	switch kind {
	case "price":
		o.Alert.Price = &inventoryv1.Price{Amount: "49.90", Currency: "EUR", Was: "51.90"} // a drop of 3.85 %
	case "sale":
		o.Alert.StartsAt = &timestamppb.Timestamp{Seconds: 1796115600}
	}
	return o
}

func TestWhoIsTold(t *testing.T) {
	t.Parallel()
	below := func(amount, currency string) *tokenv1.Wish {
		return &tokenv1.Wish{Below: &tokenv1.Money{Amount: amount, Currency: currency}}
	}
	for _, c := range []struct {
		name, kind string
		wish       *tokenv1.Wish
		want       string
	}{
		{"no wish", "stock", nil, ""},
		{"as many as there are", "stock", &tokenv1.Wish{Qty: 10}, ""},
		{"more than there are", "stock", &tokenv1.Wish{Qty: 11}, verdict.WishQuantity},
		{"small drop, no target", "price", nil, verdict.WishPrice},
		{"small drop, target met", "price", below("50", "EUR"), ""},
		{"target met to the cent", "price", below("49.9", "EUR"), ""},
		{"target not met", "price", below("49.89", "EUR"), verdict.WishPrice},
		{"another currency", "price", below("100", "USD"), verdict.WishCurrency},
		{"a quantity does not matter to a price", "price", &tokenv1.Wish{Qty: 100, Below: below("50", "EUR").GetBelow()}, ""},
		{"locale not known", "sale", nil, verdict.NoWords},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := offer(t, c.kind).For(&tokenv1.Permission{PermissionId: "p1", Wish: c.wish, Topic: c.kind + ":RAD"}, nil)
			if got.Verdict != c.want {
				t.Errorf("verdict %q (%s), want %q", got.Verdict, got.Reason, c.want)
			}
			if (got.Send == nil) != (c.want != "") {
				t.Errorf("send %v with verdict %q", got.Send, got.Verdict)
			}
		})
	}
}

func TestADropOfExactlyThePercentageIsEnough(t *testing.T) {
	t.Parallel()
	o := offer(t, "price")
	for was, told := range map[string]bool{"52.526315": false, "52.526316": true, "52.53": true} { // 49.90 / 0.95 = 52.5263157…
		o.Alert.Price.Was = was
		if got := o.For(&tokenv1.Permission{}, nil); (got.Verdict == "") != told {
			t.Errorf("from %s: %q, want told %v", was, got.Verdict, told)
		}
	}
}

func TestWordsAndConditionOfASend(t *testing.T) {
	t.Parallel()
	stock := offer(t, "stock")
	got := stock.For(&tokenv1.Permission{PermissionId: "p1", Topic: "stock:RAD"}, &tokenv1.Person{Tags: []string{"white-wine"}})
	if got.Segment != "white-wine" || got.Send.GetMessage().GetText() != "Rad shirt is back, and it goes well with oysters. 10 left." {
		t.Errorf("white wine: %v", got)
	}
	if got.Send.GetSendId() != ids.Send("a1", "p1") || got.Send.GetCondition().GetMinAvailable() != 2 || got.Send.GetCondition().GetSku() != "RAD" {
		t.Errorf("send: %v", got.Send)
	}
	got = stock.For(&tokenv1.Permission{PermissionId: "p1", Wish: &tokenv1.Wish{Qty: 3}}, nil)
	if got.Segment != rules.Fallback || got.Send.GetMessage().GetButtons()[0].GetUrl() != "https://shop.example/p/1" {
		t.Errorf("everybody else: %v", got)
	}
	if got.Send.GetCondition().GetMinAvailable() != 3 {
		t.Errorf("condition %v, want the three units the person asked for", got.Send.GetCondition())
	}

	price := offer(t, "price")
	got = price.For(&tokenv1.Permission{Wish: &tokenv1.Wish{Below: &tokenv1.Money{Amount: "50.00", Currency: "EUR"}}}, nil)
	if got.Send.GetMessage().GetText() != "RAD of s: 49.90 EUR instead of 51.90, you asked for 50.00 EUR" {
		t.Errorf("price: %v", got)
	}
	if max := got.Send.GetCondition().GetMaxPrice(); max.GetAmount() != "50.00" || max.GetCurrency() != "EUR" {
		t.Errorf("condition %v, want the target", got.Send.GetCondition())
	}
	price.Alert.Price.Was = "100"
	if max := price.For(&tokenv1.Permission{}, nil).Send.GetCondition().GetMaxPrice(); max.GetAmount() != "49.90" {
		t.Errorf("condition %v, want the alert's price", max)
	}

	sale := offer(t, "sale")
	got = sale.For(&tokenv1.Permission{}, &tokenv1.Person{Locale: "fr_FR"})
	if got.Send.GetMessage().GetText() != "Rad shirt from 2026-12-01T09:00:00Z for fr_FR" || got.Send.GetCondition().GetStartsAt().GetSeconds() != 1796115600 {
		t.Errorf("sale: %v", got)
	}
	if got := sale.For(&tokenv1.Permission{}, nil); !strings.Contains(got.Reason, "locale") {
		t.Errorf("reason %q, want the field that is missing", got.Reason)
	}
}

func TestWhatIsNotKnownOfAPersonIsThePages(t *testing.T) {
	t.Parallel()
	o := offer(t, "sale")
	o.Page = pages.Page{Locale: "fr_FR", Timezone: "Europe/Paris"}
	for locale, want := range map[string]string{
		"":      "Rad shirt : soldes (fr_FR)",
		"fr_CA": "Rad shirt : soldes (fr_CA)",
		"en_GB": "Rad shirt from 2026-12-01T09:00:00Z for en_GB",
	} {
		if got := o.For(&tokenv1.Permission{}, &tokenv1.Person{Locale: locale}); got.Send.GetMessage().GetText() != want {
			t.Errorf("locale %q: %v, want %q", locale, got, want)
		}
	}
	if got := o.For(&tokenv1.Permission{}, nil); got.Segment != "french" {
		t.Errorf("nobody known: %v, want the words of the page's locale", got)
	}
}
