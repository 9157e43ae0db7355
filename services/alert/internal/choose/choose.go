// Package choose decides for one waiting permission whether an alert tells this person, and in which words. It has no
// window: what the product and the person are is handed in.
package choose

import (
	"cmp"
	"time"

	"github.com/shopspring/decimal"

	"github.com/onebell/onebell/proto/ids"
	inventoryv1 "github.com/onebell/onebell/proto/onebell/inventory/v1"
	sendv1 "github.com/onebell/onebell/proto/onebell/send/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/proto/rules"
	"github.com/onebell/onebell/proto/verdict"
)

// Offer is an alert with what is known at the moment of choosing.
type Offer struct {
	Alert   *inventoryv1.Alert
	Rule    *rules.Alert
	Product *inventoryv1.ProductState
	Page    pages.Page // whose locale and timezone stand in for those of a person who has none known
}

// Choice is what was decided for one permission: a send, or the verdict with which the person is passed over.
type Choice struct {
	Send    *sendv1.Send    // nil: passed over
	Segment string          // whose words they are
	Verdict string          // empty: told
	Reason  string          // words for a reader; never those of the message
	Failed  []rules.Failure // segments that could not tell whether the person is of them
}

// For decides for one permission. who may be nil: then nothing is known of the person.
func (o Offer) For(p *tokenv1.Permission, who *tokenv1.Person) Choice {
	if v, reason := o.wish(p.GetWish()); v != "" {
		return Choice{Verdict: v, Reason: reason}
	}
	words, err := o.Rule.Words(o.person(p, who), o.Alert.GetTopic(), o.product(), o.data(p, who))
	if err != nil {
		return Choice{Verdict: verdict.NoWords, Reason: err.Error(), Failed: words.Failed}
	}
	message := &sendv1.Message{Text: words.Text}
	for _, b := range words.Buttons {
		message.Buttons = append(message.Buttons, &sendv1.Button{Url: b.URL, Title: b.Title})
	}
	return Choice{Segment: words.Segment, Failed: words.Failed, Send: &sendv1.Send{
		SendId:  ids.Send(o.Alert.GetAlertId(), p.GetPermissionId()),
		AlertId: o.Alert.GetAlertId(), PermissionId: p.GetPermissionId(), Topic: p.GetTopic(),
		Message: message, Condition: o.condition(p.GetWish()),
	}}
}

// wish tells whether the product fulfils what the person asked for; the verdict is empty when it does.
func (o Offer) wish(w *tokenv1.Wish) (v, reason string) {
	switch {
	case o.isStock():
		if w.GetQty() > o.available() {
			return verdict.WishQuantity, "fewer units than the person asked for"
		}
	case o.Alert.GetPrice() != nil:
		return o.affordable(w.GetBelow())
	}
	return "", ""
}

func (o Offer) affordable(target *tokenv1.Money) (v, reason string) {
	price := o.Alert.GetPrice()
	now := amount(price.GetAmount())
	if target != nil {
		switch {
		case target.GetCurrency() != price.GetCurrency():
			return verdict.WishCurrency, "the target is in " + target.GetCurrency() + ", the price in " + price.GetCurrency()
		case now.GreaterThan(amount(target.GetAmount())):
			return verdict.WishPrice, "dearer than the target"
		}
		return "", ""
	}
	// (was - now) / was < percent / 100, without a division.
	was := amount(price.GetWas())
	percent := decimal.NewFromFloat(o.Rule.MinDropPercent)
	if was.Sub(now).Mul(decimal.NewFromInt(100)).LessThan(percent.Mul(was)) {
		return verdict.WishPrice, "dropped by less than " + percent.String() + " %, and no target was named"
	}
	return "", ""
}

// condition is what must still hold just before the call.
func (o Offer) condition(w *tokenv1.Wish) *sendv1.Condition {
	c := &sendv1.Condition{Shop: o.Product.GetShop(), Sku: o.Product.GetSku()}
	switch price := o.Alert.GetPrice(); {
	case o.isStock():
		c.MinAvailable = max(o.Rule.MinAvailable, w.GetQty())
	case price != nil && w.GetBelow() != nil:
		c.MaxPrice = &inventoryv1.Price{Amount: w.GetBelow().GetAmount(), Currency: w.GetBelow().GetCurrency()}
	case price != nil:
		c.MaxPrice = &inventoryv1.Price{Amount: price.GetAmount(), Currency: price.GetCurrency()}
	default:
		c.StartsAt = o.Alert.GetStartsAt()
	}
	return c
}

func (o Offer) isStock() bool { return o.Rule.Kind == "stock" }

func (o Offer) available() int64 { return o.Product.GetStock().GetAvailable() }

func (o Offer) person(p *tokenv1.Permission, who *tokenv1.Person) rules.Person {
	out := rules.Person{PSID: p.GetPsid(), PageID: p.GetPageId(), Locale: o.locale(who), Timezone: o.Page.Timezone, Tags: who.GetTags()}
	if at := who.GetLastInteractionAt(); at != nil {
		out.LastInteractionAt = at.AsTime()
	}
	return out
}

func (o Offer) locale(who *tokenv1.Person) string { return cmp.Or(who.GetLocale(), o.Page.Locale) }

func (o Offer) product() rules.Product {
	p := o.Product.GetProduct()
	return rules.Product{
		SKU: o.Product.GetSku(), Title: p.GetTitle(), URL: p.GetUrl(), ImageURL: p.GetImageUrl(), Tags: p.GetTags(),
		Available: o.available(),
	}
}

// data is what a template sees. What is not known, or belongs to another kind of event, is no key at all: a template that
// asks for it fails, and the person is passed over instead of getting half a sentence.
func (o Offer) data(p *tokenv1.Permission, who *tokenv1.Person) map[string]any {
	known := o.Product.GetProduct()
	product := texts("title", known.GetTitle(), "url", known.GetUrl(), "image_url", known.GetImageUrl())
	if len(known.GetTags()) > 0 {
		product["tags"] = known.GetTags()
	}
	wish := map[string]any{}
	if q := p.GetWish().GetQty(); q > 0 {
		wish["qty"] = q
	}
	if b := p.GetWish().GetBelow(); b != nil {
		wish["below"] = b.GetAmount() + " " + b.GetCurrency()
	}
	data := map[string]any{
		"sku": o.Product.GetSku(), "shop": o.Product.GetShop(), "product": product,
		"person": texts("locale", o.locale(who)), "wish": wish,
	}
	switch price := o.Alert.GetPrice(); {
	case o.isStock():
		data["available"] = o.available()
	case price != nil:
		data["price"] = texts("amount", price.GetAmount(), "currency", price.GetCurrency(), "was", price.GetWas())
	case o.Alert.GetStartsAt() != nil:
		data["starts_at"] = o.Alert.GetStartsAt().AsTime().Format(time.RFC3339)
	}
	return data
}

// texts makes a map of names and values, without the empty ones.
func texts(pairs ...string) map[string]any {
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			m[pairs[i]] = pairs[i+1]
		}
	}
	return m
}

// amount reads a number that was checked where it came in; a wish that cannot be read is met by no price.
func amount(s string) decimal.Decimal {
	d, err := decimal.NewFromString(s)
	if err != nil {
		return decimal.Zero
	}
	return d
}
