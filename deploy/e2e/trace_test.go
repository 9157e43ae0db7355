package e2e_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
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
		return len(s.GetParentSpanId()) == 0 && rig.TraceID(s) == rig.TraceID(recorded)
	})
	if webhook.GetKind() != tracev1.Span_SPAN_KIND_SERVER || !strings.Contains(webhook.GetName(), "webhook") {
		t.Errorf("the trace of the opt-in begins at %q", webhook.GetName())
	}

	const trace = "0af7651916cd43dd8448eb211c80319c"
	m.PublishNATS("inventory.stock.RIESLING", `{"event_id":"wms-1","shop":"`+page.Shop+`","sku":"RIESLING","stock":{"available":5},`+rig.Product("RIESLING")+`}`,
		nats.Header{"traceparent": {"00-" + trace + "-b7ad6b7169203331-01"}})
	first := graph.Await(1)[0]
	if got := rig.TraceID(one("the call of the Send API", callOf(first))); got != trace {
		t.Errorf("the call of the Send API is in trace %s, the event in %s", got, trace)
	}

	// The same over HTTP, where the trace begins with the request.
	m.Tap(page, "ben", rig.Token("ben"), "stock:RAD-SHIRT-M")
	m.Stock(page, "wms-2", "RAD-SHIRT-M", 5)
	call := one("the second call", callOf(graph.Await(2)[1]))
	event := one("the request with the event", func(s *tracev1.Span) bool {
		return len(s.GetParentSpanId()) == 0 && rig.TraceID(s) == rig.TraceID(call)
	})
	if event.GetKind() != tracev1.Span_SPAN_KIND_SERVER || !strings.Contains(event.GetName(), "/v1/events") {
		t.Errorf("the trace of the second call begins at %q", event.GetName())
	}
}

// callOf finds the span of a call of the Send API: it names the send.
func callOf(c rig.Call) func(*tracev1.Span) bool {
	return func(s *tracev1.Span) bool {
		return s.GetKind() == tracev1.Span_SPAN_KIND_CLIENT && slices.ContainsFunc(s.GetAttributes(), func(a *commonv1.KeyValue) bool {
			return a.GetValue().GetStringValue() == c.Body.Message.Metadata
		})
	}
}
