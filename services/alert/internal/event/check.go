package event

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/shopspring/decimal"

	inventoryv1 "github.com/onebell/onebell/proto/onebell/inventory/v1"
)

// Bounds of an event. Names stand in subjects, topics and headers; the product is kept for each sku and sent around.
const (
	maxName    = 128
	maxTitle   = 1000
	maxAddress = 2048
	maxTags    = 64
	// maxAhead is how far a publisher's clock may run ahead: an event from farther on would shut out the true ones behind it.
	maxAhead = 24 * time.Hour
)

// Check says what is wrong with an event, nil when it can be used.
func Check(e *inventoryv1.Event, now time.Time) *Problem {
	for _, p := range []*Problem{
		name("event_id", e.GetEventId(), true), name("sku", e.GetSku(), true), name("shop", e.GetShop(), false),
		occurred(e, now), what(e), product(e.GetProduct()),
	} {
		if p != nil {
			return p
		}
	}
	return nil
}

func name(field, value string, required bool) *Problem {
	switch {
	case value == "" && required:
		return &Problem{field, "missing"}
	case len(value) > maxName:
		return &Problem{field, fmt.Sprintf("%d bytes, expected at most %d", len(value), maxName)}
	case strings.ContainsFunc(value, unicode.IsControl):
		return &Problem{field, "has a control character"}
	}
	return nil
}

func occurred(e *inventoryv1.Event, now time.Time) *Problem {
	if e.GetOccurredAt() == nil {
		return nil
	}
	if e.GetOccurredAt().CheckValid() != nil {
		return &Problem{"occurred_at", "not a time"}
	}
	if e.GetOccurredAt().AsTime().After(now.Add(maxAhead)) {
		return &Problem{"occurred_at", "more than a day in the future"}
	}
	return nil
}

func what(e *inventoryv1.Event) *Problem {
	switch w := e.GetWhat().(type) {
	case *inventoryv1.Event_Stock:
		if w.Stock.GetAvailable() < 0 {
			return &Problem{"stock.available", fmt.Sprintf("%d, expected 0 or more", w.Stock.GetAvailable())}
		}
	case *inventoryv1.Event_Price:
		return price(w.Price)
	case *inventoryv1.Event_Sale:
		if w.Sale.GetStartsAt() == nil {
			return &Problem{"sale.starts_at", "missing"}
		}
		if w.Sale.GetStartsAt().CheckValid() != nil {
			return &Problem{"sale.starts_at", "not a time"}
		}
	default:
		return &Problem{"", "none is set, " + exactlyOne}
	}
	return nil
}

var (
	amountForm   = regexp.MustCompile(`^[0-9]{1,12}(\.[0-9]{1,6})?$`)
	currencyForm = regexp.MustCompile(`^[A-Z]{3}$`)
)

func price(p *inventoryv1.Price) *Problem {
	switch {
	case p.GetAmount() == "":
		return &Problem{"price.amount", "missing"}
	case !amount(p.GetAmount()):
		return &Problem{"price.amount", expectedAmount}
	case !currencyForm.MatchString(p.GetCurrency()):
		return &Problem{"price.currency", "expected an ISO 4217 code like EUR"}
	case p.GetWas() != "" && !amount(p.GetWas()):
		return &Problem{"price.was", expectedAmount}
	}
	return nil
}

const expectedAmount = "expected a number greater than 0 with at most 6 decimals, like 49.90"

func amount(s string) bool {
	if !amountForm.MatchString(s) {
		return false
	}
	d, err := decimal.NewFromString(s)
	return err == nil && d.IsPositive()
}

func product(p *inventoryv1.Product) *Problem {
	switch {
	case len(p.GetTitle()) > maxTitle:
		return &Problem{"product.title", fmt.Sprintf("%d bytes, expected at most %d", len(p.GetTitle()), maxTitle)}
	case p.GetUrl() != "" && !address(p.GetUrl()):
		return &Problem{"product.url", expectedAddress}
	case p.GetImageUrl() != "" && !address(p.GetImageUrl()):
		return &Problem{"product.image_url", expectedAddress}
	case len(p.GetTags()) > maxTags:
		return &Problem{"product.tags", fmt.Sprintf("%d, expected at most %d", len(p.GetTags()), maxTags)}
	}
	for i, tag := range p.GetTags() {
		if problem := name(fmt.Sprintf("product.tags[%d]", i), tag, false); problem != nil {
			return problem
		}
	}
	return nil
}

const expectedAddress = "expected an https address"

// address allows what a button may open: https, and plain http on this machine, for the demo shop.
func address(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || len(s) > maxAddress {
		return false
	}
	return u.Scheme == "https" || strings.HasPrefix(s, "http://127.0.0.1:")
}

// Kind is the kind of topic that an event concerns: stock, price or sale; empty when it says none.
func Kind(e *inventoryv1.Event) string {
	switch e.GetWhat().(type) {
	case *inventoryv1.Event_Stock:
		return "stock"
	case *inventoryv1.Event_Price:
		return "price"
	case *inventoryv1.Event_Sale:
		return "sale"
	}
	return ""
}

// Shop is the shop that an event names, or the default one.
func Shop(e *inventoryv1.Event) string {
	if e.GetShop() == "" {
		return "default"
	}
	return e.GetShop()
}
