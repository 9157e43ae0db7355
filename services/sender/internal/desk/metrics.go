package desk

import (
	"context"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/proto/verdict"
	"github.com/onebell/onebell/services/sender/internal/answer"
)

// metrics of all desks of the process.
var metrics = newMetrics()

type instruments struct {
	calls, refused, errors, forfeited metric.Int64Counter
	waits, took                       metric.Float64Histogram
	backlog, stopped                  metric.Float64Gauge
}

func newMetrics() instruments {
	meter := otel.Meter("onebell/sender")
	var m instruments
	m.calls, _ = meter.Int64Counter("onebell_send_calls", metric.WithDescription("calls of the Send API, by page and verdict"))
	m.refused, _ = meter.Int64Counter("onebell_send_grants_refused", metric.WithDescription("sends whose grant was refused, by page and reason"))
	m.errors, _ = meter.Int64Counter("onebell_send_errors", metric.WithDescription("errors of the Send API, by code and subcode"))
	m.forfeited, _ = meter.Int64Counter("onebell_send_slots_forfeited", metric.WithDescription("slots of the pace missed by more than their own spacing"))
	m.waits, _ = meter.Float64Histogram("onebell_send_pace_wait", metric.WithUnit("s"), metric.WithDescription("how long calls waited for their turn"))
	m.took, _ = meter.Float64Histogram("onebell_send_call_duration", metric.WithUnit("s"), metric.WithDescription("how long calls of the Send API took"))
	m.backlog, _ = meter.Float64Gauge("onebell_send_backlog", metric.WithUnit("s"), metric.WithDescription("what waits in the queue of a page, in seconds at its permitted rate"))
	m.stopped, _ = meter.Float64Gauge("onebell_page_stopped", metric.WithDescription("1 while a page stands still, by page and verdict"))
	return m
}

func pageAttr(id string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("page", id))
}

func (m instruments) answer(ctx context.Context, page, v string, a answer.Answer) {
	if a.Transport == answer.Unreached {
		v = "unreached" // no call, seen from the platform
	}
	m.calls.Add(ctx, 1, metric.WithAttributes(attribute.String("page", page), attribute.String("verdict", v)))
	if a.Failed {
		m.errors.Add(ctx, 1, metric.WithAttributes(attribute.Int("code", a.Code), attribute.Int("subcode", a.Subcode)))
	}
}

// dropped counts a send whose grant was refused.
func (j *job) dropped(reason string) {
	j.count(reason, 1)
	metrics.refused.Add(context.Background(), 1, metric.WithAttributes(attribute.String("page", j.p.id), attribute.String("reason", reason))) // a counter needs none
}

// measure tells the gauges of all pages.
func (d *Desk) measure(ctx context.Context) {
	for _, p := range d.all() {
		if ctx.Err() != nil {
			return
		}
		if packs, ok := p.pending(ctx); ok {
			p.mu.Lock()
			perPack := p.perPack
			p.mu.Unlock()
			metrics.backlog.Record(ctx, float64(packs)*perPack/p.settings.Load().SendsPerSecond, pageAttr(p.id))
		}
		state, err := p.pacer.State(ctx)
		if err != nil {
			continue
		}
		p.see(state)
		for v, on := range map[string]bool{verdict.PageRefused: state.Refused, verdict.Throttled: !state.Refused && state.Stopped()} {
			value := 0.0
			if on {
				value = 1
			}
			metrics.stopped.Record(ctx, value, metric.WithAttributes(attribute.String("page", p.id), attribute.String("verdict", v)))
		}
		metrics.forfeited.Add(ctx, p.pacer.TakeForfeited(), pageAttr(p.id))
	}
}

// pending counts the packs of a page that nobody has taken yet. Those put off to a later time do not count: no worker could
// send them now.
func (p *page) pending(ctx context.Context) (packs uint64, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for _, u := range urgencies {
		cons, err := p.JS.Consumer(ctx, topology.Sends, durable(p.id, u))
		if err != nil {
			return 0, false
		}
		packs += cons.CachedInfo().NumPending
	}
	return packs, true
}
