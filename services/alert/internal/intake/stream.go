package intake

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/onebell/onebell/pkg/fault"
	"github.com/onebell/onebell/pkg/reload"
	"github.com/onebell/onebell/pkg/stream"
	inventoryv1 "github.com/onebell/onebell/proto/onebell/inventory/v1"
	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/proto/rules"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/alert/internal/event"
	"github.com/onebell/onebell/services/alert/internal/judge"
	"github.com/onebell/onebell/services/alert/internal/products"
	"github.com/onebell/onebell/services/alert/internal/waves"
)

// Desk takes events from INVENTORY, has them judged, keeps what is known of the product, and begins the waves of alerts.
type Desk struct {
	JS       jetstream.JetStream
	Products products.Store
	Pages    *reload.File[pages.File]
	Rules    *reload.File[*rules.Rules]
	Log      *slog.Logger
}

// Consumer works INVENTORY. One event is out at a time, over all processes: events of one sku must be judged in their order,
// or "0 units, 80 units" is taken for "80 units, 0 units" and nobody is told. An event takes a few milliseconds; one whose
// process was killed holds up the others for AckWait.
func (d Desk) Consumer() stream.Consumer {
	return stream.Consumer{
		Stream: topology.Inventory, Durable: "alert", AckWait: 10 * time.Second, MaxPending: 1,
		DeadSubject: topology.DeadSubject(topology.Inventory), Log: d.Log, Handle: d.Handle,
	}
}

// Handle works one event: what is known is stored, then the waves, then it is acknowledged. Killed in between, the message
// comes again and the judge gives the same alert again.
func (d Desk) Handle(ctx context.Context, msg jetstream.Msg) error {
	meta, err := msg.Metadata()
	if err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	read, problem := event.Read(msg.Headers().Get(event.ContentType), msg.Data(), time.Now())
	if problem != nil {
		refused.Add(ctx, 1, label("door", "nats"))
		return fault.New(fault.Invalid, "bad_event", problem)
	}
	kind := event.Kind(read)
	e := judge.Event{Event: read, Shop: event.Shop(read), Sequence: meta.Sequence.Stream, Stored: meta.Timestamp}
	rule, _ := d.Rules.Get().Alert(kind)
	var decided judge.Decision
	err = d.Products.Change(ctx, e.Shop, e.GetSku(), func(known *inventoryv1.ProductState) (*inventoryv1.ProductState, bool) {
		decided = judge.Judge(e, known, rule)
		return decided.State, decided.Changed
	})
	if err != nil {
		return err
	}
	if decided.Alert != nil {
		if err := d.begin(ctx, e, decided.Alert); err != nil {
			return err
		}
		alerts.Add(ctx, 1, label("kind", kind))
	}
	received.Add(ctx, 1, label("kind", kind, "result", string(decided.Reason)))
	d.Log.Info("event judged", "event", e.GetEventId(), "shop", e.Shop, "sku", e.GetSku(), "kind", kind,
		"reason", string(decided.Reason), "alert", decided.Alert.GetAlertId())
	return nil
}

// begin publishes the first wave of an alert for each page of the shop.
func (d Desk) begin(ctx context.Context, e judge.Event, alert *inventoryv1.Alert) error {
	concerned := d.Pages.Get().OfShop(e.Shop)
	if len(concerned) == 0 {
		noPage.Add(ctx, 1)
		d.Log.Warn("nobody to tell: no page belongs to the shop", "shop", e.Shop, "sku", e.GetSku(), "alert", alert.GetAlertId())
		return nil
	}
	msgs := make([]*nats.Msg, 0, len(concerned))
	for _, page := range concerned {
		msg, err := waves.First(ctx, alert, page.ID, e.Shop, e.GetSku())
		if err != nil {
			return err
		}
		msgs = append(msgs, msg)
	}
	if err := stream.PublishAll(ctx, d.JS, msgs...); err != nil {
		return fmt.Errorf("begin waves: %w", err)
	}
	return nil
}
