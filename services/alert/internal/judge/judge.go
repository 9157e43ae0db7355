// Package judge decides what an event means: nothing, or an alert, and what is known of the product afterwards.
// It has no window: no stream, no clock of its own.
package judge

import (
	"slices"
	"time"

	"github.com/shopspring/decimal"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onebell/onebell/proto/ids"
	inventoryv1 "github.com/onebell/onebell/proto/onebell/inventory/v1"
	"github.com/onebell/onebell/proto/rules"
	"github.com/onebell/onebell/services/alert/internal/event"
)

// Reason is why an event became an alert, or did not.
type Reason string

// The reasons. The first four make an alert.
const (
	BackInStock   Reason = "back_in_stock"
	PriceDropped  Reason = "price_dropped"
	SaleAnnounced Reason = "sale_announced"
	SaleMoved     Reason = "sale_moved"

	Redelivered     Reason = "redelivered" // the same message again, after a crash: the same alert again, if it made one
	Repeated        Reason = "repeated"    // the publisher said the same event again
	Late            Reason = "late"        // a newer event of this kind is known
	NoRule          Reason = "no_rule"     // rules.yaml has no alert for this kind
	StillInStock    Reason = "still_in_stock"
	SoldOut         Reason = "sold_out"
	PriceSame       Reason = "price_same"
	PriceRose       Reason = "price_rose"
	NoEarlierPrice  Reason = "no_earlier_price"
	CurrencyChanged Reason = "currency_changed"
	SaleSame        Reason = "sale_same"
)

// Event is an event as it came from the stream.
type Event struct {
	*inventoryv1.Event
	Shop     string    // never empty
	Sequence uint64    // in the stream INVENTORY: tells a message that is delivered again from a publisher's repeat
	Stored   time.Time // when the stream took it
}

// is tells whether an applied event is this one. The kind is part of the identity: one id may come with the stock and with
// the price of a sku, which are two things to tell.
func (e Event) is(a *inventoryv1.AppliedEvent) bool {
	return a.GetEventId() == e.GetEventId() && (a.GetKind() == "" || a.GetKind() == event.Kind(e.Event))
}

// Decision is what an event means.
type Decision struct {
	State   *inventoryv1.ProductState // what is known afterwards
	Changed bool                      // whether that differs from before
	Alert   *inventoryv1.Alert        // nil: nobody is told
	Reason  Reason
}

// remembered is how many events a product's state remembers.
const remembered = 32

// Judge decides. known may be nil: a sku never seen counts as sold out. rule is nil where the kind makes no alerts; what is
// known is kept up to date all the same. The same input gives the same decision.
//
// `hold` counts from when the stream took the event, not from `occurred_at`: that the change has lasted can only be known
// from there on, and a publisher's clock may be wrong.
func Judge(e Event, known *inventoryv1.ProductState, rule *rules.Alert) Decision {
	if i := slices.IndexFunc(known.GetApplied(), e.is); i >= 0 {
		if before := known.GetApplied()[i]; before.GetStored() == e.Sequence {
			return Decision{State: known, Alert: before.GetAlert(), Reason: Redelivered}
		}
		return Decision{State: known, Reason: Repeated}
	}
	mark := &inventoryv1.Mark{Sequence: e.GetSequence(), OccurredAt: e.GetOccurredAt()}
	if mark.GetOccurredAt() == nil {
		mark.OccurredAt = timestamppb.New(e.Stored)
	}
	if late(mark, markOf(e, known)) {
		return Decision{State: known, Reason: Late}
	}
	state := &inventoryv1.ProductState{}
	if known != nil {
		state = proto.CloneOf(known)
	}
	state.Shop, state.Sku = e.Shop, e.GetSku()
	merge(state, e.GetProduct())
	if mark.GetSequence() == 0 { // one event without a sequence does not forget those of the others
		mark.Sequence = markOf(e, known).GetSequence()
	}

	var alert *inventoryv1.Alert
	var reason Reason
	switch what := e.GetWhat().(type) {
	case *inventoryv1.Event_Stock:
		alert, reason = stock(state, e, what.Stock, mark, rule)
	case *inventoryv1.Event_Price:
		alert, reason = price(state, e, what.Price, mark, rule)
	case *inventoryv1.Event_Sale:
		alert, reason = sale(state, e, what.Sale, mark, rule)
	}
	remember(state, e, alert)
	return Decision{State: state, Changed: true, Alert: alert, Reason: reason}
}

// InForce tells whether an alert is still the latest word on its topic: not sold out since, not dearer, not moved.
func InForce(state *inventoryv1.ProductState, alertID string) bool {
	return alertID != "" && slices.Contains(inForce(state), alertID)
}

func inForce(state *inventoryv1.ProductState) []string {
	return []string{state.GetStock().GetAlertId(), state.GetPrice().GetAlertId(), state.GetSale().GetAlertId()}
}

func markOf(e Event, known *inventoryv1.ProductState) *inventoryv1.Mark {
	switch e.GetWhat().(type) {
	case *inventoryv1.Event_Stock:
		return known.GetStock().GetMark()
	case *inventoryv1.Event_Price:
		return known.GetPrice().GetMark()
	case *inventoryv1.Event_Sale:
		return known.GetSale().GetMark()
	}
	return nil
}

// late tells whether an event is older than the last one of its kind: by sequence where both have one, else by time.
func late(mark, last *inventoryv1.Mark) bool {
	if last == nil {
		return false
	}
	if mark.GetSequence() != 0 && last.GetSequence() != 0 {
		return mark.GetSequence() < last.GetSequence()
	}
	return mark.GetOccurredAt().AsTime().Before(last.GetOccurredAt().AsTime())
}

// stock makes an alert of the way from sold out (below min_available) to in stock.
func stock(state *inventoryv1.ProductState, e Event, s *inventoryv1.Stock, mark *inventoryv1.Mark, rule *rules.Alert) (*inventoryv1.Alert, Reason) {
	least := int64(1)
	if rule != nil {
		least = rule.MinAvailable
	}
	before := state.GetStock()
	told := lastDue(state, before.GetAlertId(), before.GetAlertedAt(), e.Stored)
	after := &inventoryv1.StockState{Mark: mark, Available: s.GetAvailable(), AlertId: before.GetAlertId(), AlertedAt: told}
	state.Stock = after
	switch {
	case s.GetAvailable() < least:
		after.AlertId = ""
		return nil, SoldOut
	case before.GetAvailable() >= least:
		return nil, StillInStock
	case rule == nil:
		return nil, NoRule
	}
	alert := newAlert("stock", e, rule, told)
	alert.Available = s.GetAvailable()
	after.AlertId = alert.GetAlertId()
	return alert, BackInStock
}

// price makes an alert of a drop. The price before is the publisher's `was`, else the last one known; but a price that is not
// below the last one known in the same currency is no drop, whatever `was` says: many shops print a list price there.
func price(state *inventoryv1.ProductState, e Event, p *inventoryv1.Price, mark *inventoryv1.Mark, rule *rules.Alert) (*inventoryv1.Alert, Reason) {
	before := state.GetPrice()
	told := lastDue(state, before.GetAlertId(), before.GetAlertedAt(), e.Stored)
	after := &inventoryv1.PriceState{Mark: mark, Amount: p.GetAmount(), Currency: p.GetCurrency(), AlertedAt: told}
	state.Price = after
	now := amount(p.GetAmount())
	earlier := p.GetWas()
	switch {
	case before.GetCurrency() == p.GetCurrency():
		switch last := amount(before.GetAmount()); {
		case now.Equal(last):
			after.Was, after.AlertId = before.GetWas(), before.GetAlertId()
			return nil, PriceSame
		case now.GreaterThan(last):
			return nil, PriceRose
		}
		if earlier == "" {
			earlier = before.GetAmount()
		}
	case earlier == "" && before != nil:
		return nil, CurrencyChanged
	case earlier == "":
		return nil, NoEarlierPrice
	}
	switch was := amount(earlier); {
	case now.Equal(was):
		return nil, PriceSame
	case now.GreaterThan(was):
		return nil, PriceRose
	}
	after.Was = earlier
	if rule == nil {
		return nil, NoRule
	}
	alert := newAlert("price", e, rule, told)
	alert.Price = &inventoryv1.Price{Amount: p.GetAmount(), Currency: p.GetCurrency(), Was: earlier}
	after.AlertId = alert.GetAlertId()
	return alert, PriceDropped
}

// sale makes an alert that is due when the sale starts; another start replaces it.
func sale(state *inventoryv1.ProductState, e Event, s *inventoryv1.Sale, mark *inventoryv1.Mark, rule *rules.Alert) (*inventoryv1.Alert, Reason) {
	before := state.GetSale()
	after := &inventoryv1.SaleState{Mark: mark, StartsAt: s.GetStartsAt()}
	state.Sale = after
	if before != nil && before.GetStartsAt().AsTime().Equal(s.GetStartsAt().AsTime()) {
		after.AlertId = before.GetAlertId()
		return nil, SaleSame
	}
	if rule == nil {
		return nil, NoRule
	}
	alert := newAlert("sale", e, rule, lastDue(state, before.GetAlertId(), nil, e.Stored))
	alert.StartsAt = s.GetStartsAt()
	if alert.GetDue().AsTime().Before(s.GetStartsAt().AsTime()) {
		alert.Due = s.GetStartsAt()
	}
	after.AlertId = alert.GetAlertId()
	if before.GetAlertId() != "" {
		return alert, SaleMoved
	}
	return alert, SaleAnnounced
}

// newAlert is an alert that is due after `hold`, and after `cool_down` since people were last told.
func newAlert(kind string, e Event, rule *rules.Alert, told *timestamppb.Timestamp) *inventoryv1.Alert {
	due := e.Stored.Add(rule.Hold)
	if told != nil {
		if cool := told.AsTime().Add(rule.CoolDown); cool.After(due) {
			due = cool
		}
	}
	topic := kind + ":" + e.GetSku()
	return &inventoryv1.Alert{
		AlertId: ids.Alert(e.Shop, topic, e.GetEventId()), Topic: topic, EventId: e.GetEventId(), Due: timestamppb.New(due),
	}
}

// lastDue is when people were last told: the alert in force if its time has come, else the one before it. An alert that was
// taken back before its time told nobody, so no cool-down counts from it.
func lastDue(state *inventoryv1.ProductState, alertID string, before *timestamppb.Timestamp, now time.Time) *timestamppb.Timestamp {
	if alertID == "" {
		return before
	}
	for _, a := range state.GetApplied() {
		if due := a.GetAlert().GetDue(); a.GetAlert().GetAlertId() == alertID && !due.AsTime().After(now) {
			return due
		}
	}
	return before
}

// remember adds an event to those applied and forgets the oldest, but never the ones whose alerts are in force.
func remember(state *inventoryv1.ProductState, e Event, alert *inventoryv1.Alert) {
	state.Applied = append(state.Applied, &inventoryv1.AppliedEvent{EventId: e.GetEventId(), Kind: event.Kind(e.Event), Alert: alert, Stored: e.Sequence})
	for len(state.Applied) > remembered {
		i := slices.IndexFunc(state.Applied, func(a *inventoryv1.AppliedEvent) bool { return !InForce(state, a.GetAlert().GetAlertId()) })
		state.Applied = slices.Delete(state.Applied, i, i+1)
	}
}

// merge adds what an event says about the product; fields it leaves empty keep what was known.
func merge(state *inventoryv1.ProductState, p *inventoryv1.Product) {
	if p == nil {
		return
	}
	if state.Product == nil {
		state.Product = &inventoryv1.Product{}
	}
	known := state.Product
	if p.GetTitle() != "" {
		known.Title = p.GetTitle()
	}
	if p.GetUrl() != "" {
		known.Url = p.GetUrl()
	}
	if p.GetImageUrl() != "" {
		known.ImageUrl = p.GetImageUrl()
	}
	if len(p.GetTags()) > 0 {
		known.Tags = slices.Clone(p.GetTags())
	}
}

// amount reads a number that was checked at the door.
func amount(s string) decimal.Decimal {
	d, _ := decimal.NewFromString(s)
	return d
}
