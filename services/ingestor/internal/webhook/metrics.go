package webhook

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/onebell/onebell/services/ingestor/internal/envelope"
	"github.com/onebell/onebell/services/ingestor/internal/seal"
)

type metrics struct {
	requests    metric.Int64Counter
	took        metric.Float64Histogram
	elements    metric.Int64Counter
	signatures  metric.Int64Counter
	dead        metric.Int64Counter
	unknownPage metric.Int64Counter
}

func newMetrics() metrics {
	meter := otel.Meter("onebell/ingestor")
	counter := func(name, about string) metric.Int64Counter {
		c, _ := meter.Int64Counter(name, metric.WithDescription(about)) // a counter that is refused counts nothing, and is still one
		return c
	}
	took, _ := meter.Float64Histogram("onebell_ingestor_answer", metric.WithUnit("s"), metric.WithDescription("time to the answer, by result"),
		metric.WithExplicitBucketBoundaries(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10))
	return metrics{
		requests:    counter("onebell_ingestor_requests", "requests by result"),
		took:        took,
		elements:    counter("onebell_ingestor_elements", "elements stored, by kind"),
		signatures:  counter("onebell_ingestor_signatures", "good signatures by the secret that matched: the first page that lists it and its place there"),
		dead:        counter("onebell_ingestor_dead", "bodies kept in the dead letters, by reason"),
		unknownPage: counter("onebell_ingestor_unknown_page", "elements of pages that are not in pages.yaml"),
	}
}

func (m metrics) request(ctx context.Context, result string, took time.Duration) {
	by := metric.WithAttributes(attribute.String("result", result))
	m.requests.Add(ctx, 1, by)
	if took > 0 {
		m.took.Record(ctx, took.Seconds(), by)
	}
}

func (m metrics) signed(ctx context.Context, match seal.Match) {
	m.signatures.Add(ctx, 1, metric.WithAttributes(attribute.String("page", match.Page), attribute.Int("secret", match.Index)))
}

func (m metrics) buried(ctx context.Context, reason string) {
	m.dead.Add(ctx, 1, metric.WithAttributes(attribute.String("reason", reason)))
}

// stored counts elements by kind; it returns how many are one-time opt-ins, whose kind here is "otn".
func (m metrics) stored(ctx context.Context, elements []envelope.Element) (optins int) {
	kinds := map[string]int64{}
	for _, e := range elements {
		if e.OneTime {
			optins++
			kinds["otn"]++
			continue
		}
		kinds[e.Kind]++
	}
	for kind, n := range kinds {
		m.elements.Add(ctx, n, metric.WithAttributes(attribute.String("kind", kind)))
	}
	return optins
}

// notices keeps a warning about one page from being said more than once a minute.
type notices struct {
	mu   sync.Mutex
	said map[string]time.Time
}

// maxNotices bounds the memory for pages that nobody knows; beyond it the oldest warnings may be said again.
const maxNotices = 1000

func (n *notices) due(page string, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if last, ok := n.said[page]; ok && now.Sub(last) < time.Minute {
		return false
	}
	if n.said == nil || len(n.said) >= maxNotices {
		n.said = map[string]time.Time{}
	}
	n.said[page] = now
	return true
}
