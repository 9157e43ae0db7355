package shop

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/onebell/onebell/pkg/fault"
)

// publishIn bounds one call to Onebell's events door.
const publishIn = 5 * time.Second

// Desk is where the shop says what it has. Safe for use from many goroutines.
type Desk struct {
	url    string // of the events door, without path
	token  string // shown there, may be empty
	client *http.Client
	keep   func(State) error

	mu       sync.Mutex
	states   map[string]State
	sequence int64
}

// Published is an event that Onebell took.
type Published struct {
	EventID  string          `json:"event_id"`
	Sequence int64           `json:"sequence,string"`
	Topic    string          `json:"topic"`
	Status   int             `json:"status"` // of Onebell's answer
	Event    json.RawMessage `json:"event"`
}

// NewDesk makes a desk where everything is sold out and the ticket sale is a week ahead, but for what is remembered. keep
// is called with what must be remembered.
func NewDesk(url, token string, remembered []State, now time.Time, keep func(State) error) *Desk {
	d := &Desk{url: url, token: token, keep: keep, client: &http.Client{Timeout: publishIn}, states: map[string]State{}}
	for _, p := range Catalogue {
		s := State{SKU: p.SKU, Price: p.Price}
		if p.Tickets {
			s.SaleAt = now.Add(7 * 24 * time.Hour).Truncate(time.Hour)
		}
		d.states[p.SKU] = s
	}
	for _, s := range remembered {
		d.states[s.SKU] = s
	}
	return d
}

// States says how everything stands.
func (d *Desk) States() map[string]State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.states)
}

// Stock tells that so many are available.
func (d *Desk) Stock(ctx context.Context, shop, sku string, available int64) (Published, error) {
	if available < 0 {
		return Published{}, invalid("available is %d: expected 0 or more", available)
	}
	return d.tell(ctx, shop, sku, "stock", map[string]any{"available": available}, func(s *State) { s.Available = available })
}

var amount = regexp.MustCompile(`^\d{1,9}(\.\d{1,3})?$`)

// Price tells a new price.
func (d *Desk) Price(ctx context.Context, shop, sku, price string) (Published, error) {
	if !amount.MatchString(price) {
		return Published{}, invalid("amount is %q: expected a number like 49.90, in %s", price, Currency)
	}
	was := d.States()[sku].Price
	return d.tell(ctx, shop, sku, "price", map[string]any{"amount": price, "currency": Currency, "was": was}, func(s *State) { s.Price = price })
}

// Sale tells when tickets are sold from.
func (d *Desk) Sale(ctx context.Context, shop, sku string, at time.Time) (Published, error) {
	return d.tell(ctx, shop, sku, "sale", map[string]any{"starts_at": at.UTC().Format(time.RFC3339)}, func(s *State) { s.SaleAt = at.UTC() })
}

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, "bad_value", fmt.Errorf(format, args...))
}

// tell publishes an event; the desk changes only when Onebell took it. The id is fresh each time: pressing a button twice
// is two events.
func (d *Desk) tell(ctx context.Context, shop, sku, kind string, what map[string]any, change func(*State)) (Published, error) {
	p, ok := Find(sku)
	if !ok {
		return Published{}, fault.New(fault.NotFound, "no_product", fmt.Errorf("sku %q is not in the demo shop's catalogue: %s", sku, skus()))
	}
	now := time.Now().UTC()
	out := Published{EventID: "sim-" + rand.Text(), Sequence: d.next(now), Topic: kind + ":" + sku}
	event, err := json.Marshal(map[string]any{
		"event_id": out.EventID, "shop": shop, "sku": sku, "sequence": fmt.Sprint(out.Sequence), "occurred_at": now.Format(time.RFC3339Nano),
		kind:      what,
		"product": map[string]any{"title": p.Title, "url": p.URL(), "image_url": p.ImageURL(), "tags": p.Tags},
	})
	if err != nil {
		return Published{}, err
	}
	out.Event = event
	if out.Status, err = d.post(ctx, event); err != nil {
		return out, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.states[sku]
	change(&s)
	d.states[sku] = s
	return out, d.keep(s)
}

// next is a sequence that rises over restarts too: microseconds of the machine's clock.
func (d *Desk) next(now time.Time) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sequence = max(d.sequence+1, now.UnixMicro())
	return d.sequence
}

func (d *Desk) post(ctx context.Context, event []byte) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url+"/v1/events", bytes.NewReader(event))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if d.token != "" {
		req.Header.Set("Authorization", "Bearer "+d.token)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return 0, fault.New(fault.Unavailable, "events_door", fmt.Errorf("the events door cannot be reached: %w", err))
	}
	defer func() { _ = resp.Body.Close() }()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if resp.StatusCode != http.StatusAccepted {
		return resp.StatusCode, fault.New(fault.Unavailable, "events_door",
			errors.New("the events door answered "+resp.Status+": "+strings.TrimSpace(string(answer))))
	}
	return resp.StatusCode, nil
}

func skus() string {
	names := make([]string, len(Catalogue))
	for i, p := range Catalogue {
		names[i] = p.SKU
	}
	return strings.Join(names, ", ")
}
