package steer

import (
	"net/http"
	"slices"
	"time"

	"github.com/onebell/onebell/services/simulator/internal/messenger"
	"github.com/onebell/onebell/services/simulator/internal/platform"
	"github.com/onebell/onebell/services/simulator/internal/shop"
)

func (a *API) faults(*http.Request) (any, error) { return a.Messenger.Faults(), nil }

func (a *API) setFaults(r *http.Request) (any, error) {
	in, err := body[messenger.Faults](r)
	if err != nil {
		return nil, err
	}
	if in.PageID != "" {
		if _, err := a.page(in.PageID); err != nil {
			return nil, err
		}
	}
	if err := a.Messenger.SetFaults(in); err != nil {
		return nil, invalid("%w", err)
	}
	return in, nil
}

func (a *API) clearFaults(*http.Request) (any, error) {
	return messenger.Faults{}, a.Messenger.SetFaults(messenger.Faults{})
}

func (a *API) switches(*http.Request) (any, error) { return a.Messenger.Switches(), nil }

func (a *API) setSwitches(r *http.Request) (any, error) {
	in, err := body[platform.Switches](r)
	if err != nil {
		return nil, err
	}
	if err := a.Messenger.SetSwitches(in); err != nil {
		return nil, invalid("%w", err)
	}
	return in, nil
}

var kinds = []string{messenger.SendIn, messenger.CallIn, messenger.WebhookOut, messenger.EventOut}

func (a *API) journal(r *http.Request) (any, error) {
	after, err := number(r, "after", 0, 0, 1<<62)
	if err != nil {
		return nil, err
	}
	limit, err := number(r, "limit", 1000, 1, maxLines)
	if err != nil {
		return nil, err
	}
	what := r.URL.Query().Get("what")
	if what != "" && !slices.Contains(kinds, what) {
		return nil, invalid("what is %q: expected one of %v", what, kinds)
	}
	return map[string]any{"journal": a.Messenger.Journal(after, what, int(limit)), "waiting_webhooks": a.Messenger.WaitingWebhooks()}, nil
}

func (a *API) shop(*http.Request) (any, error) {
	states := a.Desk.States()
	list := make([]shop.State, 0, len(states))
	for _, p := range shop.Catalogue {
		list = append(list, states[p.SKU])
	}
	return map[string]any{"products": list}, nil
}

// told writes an event of the desk into the journal, whether Onebell took it or not.
func (a *API) told(p shop.Published, err error) (any, error) {
	if p.Topic != "" {
		line := messenger.Line{What: messenger.EventOut, Detail: p.Topic, Status: p.Status, Body: p.Event}
		if err != nil {
			line.Problem = err.Error()
		}
		a.Messenger.Note(line)
		a.Messenger.Tell("desk")
	}
	return p, err
}

func (a *API) stock(r *http.Request) (any, error) {
	in, err := body[struct {
		SKU       string `json:"sku"`
		Available *int64 `json:"available"`
	}](r)
	if err != nil {
		return nil, err
	}
	if in.Available == nil {
		return nil, invalid("available is missing: expected 0 or more")
	}
	page, err := a.page("")
	if err != nil {
		return nil, err
	}
	return a.told(a.Desk.Stock(r.Context(), page.Shop, in.SKU, *in.Available))
}

func (a *API) price(r *http.Request) (any, error) {
	in, err := body[struct {
		SKU    string `json:"sku"`
		Amount string `json:"amount"`
	}](r)
	if err != nil {
		return nil, err
	}
	page, err := a.page("")
	if err != nil {
		return nil, err
	}
	return a.told(a.Desk.Price(r.Context(), page.Shop, in.SKU, in.Amount))
}

func (a *API) sale(r *http.Request) (any, error) {
	in, err := body[struct {
		SKU      string     `json:"sku"`
		StartsAt *time.Time `json:"starts_at"` // missing: now
	}](r)
	if err != nil {
		return nil, err
	}
	page, err := a.page("")
	if err != nil {
		return nil, err
	}
	at := time.Now()
	if in.StartsAt != nil {
		at = *in.StartsAt
	}
	if p, ok := shop.Find(in.SKU); ok && !p.Tickets {
		return nil, invalid("%s is sold from stock: only tickets have a sale that starts", in.SKU)
	}
	return a.told(a.Desk.Sale(r.Context(), page.Shop, in.SKU, at))
}
