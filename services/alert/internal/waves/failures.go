package waves

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/onebell/onebell/proto/rules"
)

// failures tells of segments whose expressions fail: each is counted, and logged once a minute, because an expression that
// fails for one person usually fails for thousands.
type failures struct {
	mu   sync.Mutex
	said map[string]time.Time // by kind of alert and segment: as many as rules.yaml has
}

var failed = func() metric.Int64Counter {
	c, _ := otel.Meter("onebell/alert").Int64Counter("onebell_segment_failures", metric.WithDescription("segment expressions that failed for a person and so counted as not fitting, by kind and segment"))
	return c
}()

func (f *failures) note(ctx context.Context, kind string, all []rules.Failure, log *slog.Logger) {
	for _, one := range all {
		failed.Add(ctx, 1, metric.WithAttributes(attribute.String("kind", kind), attribute.String("segment", one.Segment)))
		if f.due(kind+" "+one.Segment, time.Now()) {
			log.Warn("a segment's expression failed, it counts as not fitting", "kind", kind, "segment", one.Segment, "err", one.Err)
		}
	}
}

func (f *failures) due(rule string, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if last, ok := f.said[rule]; ok && now.Sub(last) < time.Minute {
		return false
	}
	f.said[rule] = now
	return true
}
