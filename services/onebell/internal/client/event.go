package client

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	alertv1 "github.com/onebell/onebell/proto/onebell/alert/v1"
	inventoryv1 "github.com/onebell/onebell/proto/onebell/inventory/v1"
)

// Event publishes what an inventory system would.
type Event struct {
	Stock stockEvent `cmd:"" help:"So many units can be sold now."`
	Price priceEvent `cmd:"" help:"One unit costs so much now."`
	Sale  saleEvent  `cmd:"" help:"The product can be bought from this moment on."`
}

// product is what all events say.
type product struct {
	Where
	SKU      string   `name:"sku" required:"" help:"The product's stock keeping unit."`
	Shop     string   `default:"default" help:"Whose product it is: the shop in pages.yaml."`
	EventID  string   `name:"event-id" help:"Id of the event: the same id again changes nothing (default: a random one, printed)." placeholder:"ID"`
	Sequence int64    `help:"Order among the events of this product: a lower one that comes late is ignored." placeholder:"N"`
	Title    string   `help:"Name of the product, for the message."`
	URL      string   `name:"url" help:"Address of the product's page."`
	ImageURL string   `name:"image-url" help:"Address of a picture."`
	Tag      []string `sep:"none" help:"The shop's own label of the product; may be repeated."`
}

func (p product) event() *inventoryv1.Event {
	e := &inventoryv1.Event{EventId: p.EventID, Shop: p.Shop, Sku: p.SKU, Sequence: p.Sequence}
	if e.EventId == "" {
		raw := make([]byte, 8)
		_, _ = rand.Read(raw) // never fails
		e.EventId = "cli-" + hex.EncodeToString(raw)
	}
	if p.Title != "" || p.URL != "" || p.ImageURL != "" || len(p.Tag) > 0 {
		e.Product = &inventoryv1.Product{Title: p.Title, Url: p.URL, ImageUrl: p.ImageURL, Tags: p.Tag}
	}
	return e
}

type stockEvent struct {
	product
	Available int64 `required:"" help:"Units; 0 means sold out." placeholder:"N"`
}

// Run publishes the event.
func (c stockEvent) Run(e *Env) error {
	event := c.event()
	event.What = &inventoryv1.Event_Stock{Stock: &inventoryv1.Stock{Available: c.Available}}
	return c.publish(e, event, fmt.Sprintf("stock of %s: %d available", c.SKU, c.Available))
}

type priceEvent struct {
	product
	Amount   string `required:"" help:"Price of one unit, like 49.90."`
	Currency string `required:"" help:"ISO 4217 code, like EUR." placeholder:"CODE"`
	Was      string `help:"The price before (default: the last one known)." placeholder:"AMOUNT"`
}

// Run publishes the event.
func (c priceEvent) Run(e *Env) error {
	event := c.event()
	event.What = &inventoryv1.Event_Price{Price: &inventoryv1.Price{Amount: c.Amount, Currency: c.Currency, Was: c.Was}}
	return c.publish(e, event, fmt.Sprintf("price of %s: %s %s", c.SKU, c.Amount, c.Currency))
}

type saleEvent struct {
	product
	StartsAt time.Time `required:"" help:"Start of the sale, like 2026-12-01T09:00:00Z." placeholder:"TIME"`
}

// Run publishes the event.
func (c saleEvent) Run(e *Env) error {
	event := c.event()
	event.What = &inventoryv1.Event_Sale{Sale: &inventoryv1.Sale{StartsAt: timestamppb.New(c.StartsAt)}}
	return c.publish(e, event, fmt.Sprintf("sale of %s: from %s", c.SKU, c.StartsAt.Format(time.RFC3339)))
}

// publish stores one event and says under which id.
func (p product) publish(e *Env, event *inventoryv1.Event, what string) error {
	conn, err := p.alertService(e)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	answer, err := alertv1.NewAlertServiceClient(conn).PublishEvents(e.Ctx,
		&alertv1.PublishEventsRequest{Events: []*inventoryv1.Event{event}}, grpc.WaitForReady(false))
	if err != nil {
		return refused(err)
	}
	if !p.JSON {
		_, err = fmt.Fprintf(e.Out, "%s (event %s is stored)\n", what, event.GetEventId())
		return err
	}
	accepted, err := object(answer, true)
	if err != nil {
		return err
	}
	document := map[string]any{}
	if err := json.Unmarshal(accepted, &document); err != nil {
		return err
	}
	document["event_id"] = event.GetEventId()
	return e.printJSON(document)
}
