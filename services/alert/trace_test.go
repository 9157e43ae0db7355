package alert_test

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/onebell/onebell/pkg/testkit"
	"github.com/onebell/onebell/proto/topology"
)

func TestMain(m *testing.M) {
	otel.SetTextMapPropagator(propagation.TraceContext{})
	otel.SetTracerProvider(trace.NewTracerProvider())
	os.Exit(m.Run())
}

func TestOneTraceFromEventToSend(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.crowd.add("stock:RAD", 1, nil, nil)
	const traceID = "0af7651916cd43dd8448eb211c80319c"
	body := `{"event_id":"e1","shop":"` + shop + `","sku":"RAD","stock":{"available":3},` + rad + `}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.http+"/v1/events", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Traceparent", "00-"+traceID+"-b7ad6b7169203331-01")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	testkit.Eventually(t, "the send", func() bool { return len(h.sends()) == 1 })
	h.each(topology.Sends, func(msg *jetstream.RawStreamMsg) {
		if got := msg.Header.Get("traceparent"); !strings.Contains(got, traceID) {
			t.Errorf("traceparent %q, want the publisher's trace %s", got, traceID)
		}
	})
}
