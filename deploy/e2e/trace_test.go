package e2e_test

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/onebell/onebell/deploy/e2e/rig"
	"github.com/onebell/onebell/proto/topology"
)

// One trace from the webhook to the recorded opt-in, and one from the inventory event to the call of the Send API.
func TestTraces(t *testing.T) {
	t.Parallel()
	graph, spans := rig.NewGraph(t), rig.NewSpans(t)
	m := rig.NewMachine(t, rig.Options{Graph: graph, Settings: spans.Settings()})
	m.Tap(page, "anna", rig.Token("anna"), "stock:RIESLING")
	one := func(what string, holds func(*tracev1.Span) bool) *tracev1.Span {
		t.Helper()
		rig.Eventually(t, "a span: "+what, func() bool { return len(spans.Find(holds)) > 0 })
		return spans.Find(holds)[0]
	}
	recorded := one("work on the opt-in", func(s *tracev1.Span) bool {
		return s.GetKind() == tracev1.Span_SPAN_KIND_CONSUMER && rig.Attribute(s, "messaging.destination.name") == topology.OptinSubject(page.ID, "anna")
	})
	webhook := one("the webhook", func(s *tracev1.Span) bool {
		return s.GetKind() == tracev1.Span_SPAN_KIND_SERVER && rig.TraceID(s) == rig.TraceID(recorded)
	})
	if !strings.Contains(webhook.GetName()+rig.Attribute(webhook, "url.path"), "webhook") {
		t.Errorf("the trace of the opt-in begins at %q", webhook.GetName())
	}

	const trace = "0af7651916cd43dd8448eb211c80319c"
	m.PublishNATS("inventory.stock.RIESLING", `{"event_id":"wms-1","shop":"`+page.Shop+`","sku":"RIESLING","stock":{"available":5},`+rig.Product("RIESLING")+`}`,
		nats.Header{"traceparent": {"00-" + trace + "-b7ad6b7169203331-01"}})
	graph.Await(1)
	one("the call of the Send API in the trace of the event", func(s *tracev1.Span) bool {
		return s.GetKind() == tracev1.Span_SPAN_KIND_CLIENT && rig.TraceID(s) == trace && toGraph(s, graph)
	})

	// The same over HTTP, where the trace begins with the request.
	m.Tap(page, "ben", rig.Token("ben"), "stock:RAD-SHIRT-M")
	m.Stock(page, "wms-2", "RAD-SHIRT-M", 5)
	graph.Await(2)
	call := one("the second call", func(s *tracev1.Span) bool {
		return s.GetKind() == tracev1.Span_SPAN_KIND_CLIENT && rig.TraceID(s) != trace && toGraph(s, graph)
	})
	event := one("the request with the event", func(s *tracev1.Span) bool {
		return s.GetKind() == tracev1.Span_SPAN_KIND_SERVER && rig.TraceID(s) == rig.TraceID(call)
	})
	if !strings.Contains(event.GetName()+rig.Attribute(event, "url.path"), "event") {
		t.Errorf("the trace of the second call begins at %q", event.GetName())
	}
}

// toGraph tells whether a client span is a call of the Send API.
func toGraph(s *tracev1.Span, graph *rig.Graph) bool {
	host, _, _ := strings.Cut(strings.TrimPrefix(graph.URL(), "http://"), ":")
	return rig.Attribute(s, "server.address") == host || strings.HasPrefix(rig.Attribute(s, "url.full"), graph.URL())
}
