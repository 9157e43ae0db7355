// Package intake is how inventory events come in: over HTTP and gRPC into the stream INVENTORY, and from there, with those
// that others publish themselves, to the judge. An event is read and checked by package event at all three doors.
package intake

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/onebell/onebell/pkg/stream"
	inventoryv1 "github.com/onebell/onebell/proto/onebell/inventory/v1"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/alert/internal/event"
)

// Intake stores events.
type Intake struct {
	JS  jetstream.JetStream
	Log *slog.Logger
}

// batch is how many events are under way at once: a server that syncs each message takes about a thousand a second, and
// the client's patience with one acknowledgement is 5 s.
const batch = 500

// store publishes events and answers how many are stored now or were before: a repeat within the stream's memory of ids is
// not stored twice, one after that is found by the judge.
func (in Intake) store(ctx context.Context, events []*inventoryv1.Event) (stored int, err error) {
	for len(events) > 0 {
		n := min(batch, len(events))
		msgs := make([]*nats.Msg, 0, n)
		for _, e := range events[:n] {
			body, err := event.JSON(e)
			if err != nil {
				return stored, err
			}
			msgs = append(msgs, stream.NewMsg(ctx, topology.InventorySubject(event.Kind(e), e.GetSku()), messageID(e), body))
		}
		if err := stream.PublishAll(ctx, in.JS, msgs...); err != nil {
			return stored, fmt.Errorf("store events: %w", err)
		}
		stored += n
		events = events[n:]
	}
	return stored, nil
}

// messageID comes from kind, shop, sku and event id, escaped because a header holds no line end and they must not run
// together. Kind and sku are in it because some publishers give one id to a whole delivery: two of its lines must not be taken
// for one.
func messageID(e *inventoryv1.Event) string {
	return event.Kind(e) + ":" + url.QueryEscape(event.Shop(e)) + ":" + url.QueryEscape(e.GetSku()) + ":" + url.QueryEscape(e.GetEventId())
}

var (
	received = counter("onebell_inventory_events", "inventory events, by kind and what was decided")
	refused  = counter("onebell_inventory_refused", "inventory events that cannot be read, by door")
	alerts   = counter("onebell_alerts", "alerts made, by kind")
	noPage   = counter("onebell_alerts_without_page", "alerts of shops that no page in pages.yaml belongs to")
)

func counter(name, description string) metric.Int64Counter {
	c, _ := otel.Meter("onebell/alert").Int64Counter(name, metric.WithDescription(description))
	return c
}

func label(pairs ...string) metric.AddOption {
	attrs := make([]attribute.KeyValue, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		attrs = append(attrs, attribute.String(pairs[i], pairs[i+1]))
	}
	return metric.WithAttributes(attrs...)
}
