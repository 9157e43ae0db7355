package desk

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/onebell/onebell/pkg/fault"
	"github.com/onebell/onebell/pkg/stream"
	sendv1 "github.com/onebell/onebell/proto/onebell/send/v1"
	"github.com/onebell/onebell/proto/topology"
)

var tracer = otel.Tracer("onebell/sender")

// work works one pack and acknowledges it: the only place where that happens. stopping ends when the worker stops; what was
// begun is finished all the same.
func (p *page) work(stopping context.Context, u topology.Urgency, msg jetstream.Msg, pack *sendv1.Pack, bad error) {
	defer p.end()
	ctx := stream.TraceContext(context.WithoutCancel(stopping), msg.Headers())
	ctx, span := tracer.Start(ctx, "work pack", trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(attribute.String("onebell.page", p.id), attribute.Int("onebell.sends", len(pack.GetSends()))))
	defer span.End()
	alive, done := context.WithCancel(ctx)
	go p.sayAlive(alive, msg)

	j := newJob(stopping, p, u, msg, pack)
	err := j.start(ctx, bad)
	if j.taken {
		// Not before the acknowledgement: until then the pack may come a second time.
		defer p.leave(pack.GetSends())
	}
	p.called(u, j.waiting())
	j.tell(err)
	done()

	if err = p.acknowledge(ctx, u, msg, err); err != nil {
		// The pack comes again by itself after AckWait, and is harmless: what was used is refused by the token service.
		p.Log.Warn("pack not acknowledged", "page", p.id, "err", err)
	}
}

// acknowledge tells the server what was decided: done, never, or again after a delay.
func (p *page) acknowledge(ctx context.Context, u topology.Urgency, msg jetstream.Msg, err error) error {
	if err == nil {
		limited, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return msg.DoubleAck(limited)
	}
	f := fault.Of(err)
	if f.Kind == fault.Invalid {
		p.Log.Error("pack given up", "page", p.id, "reason", f.Reason, "err", err)
		buried := stream.Bury(ctx, p.JS, topology.DeadSubject(topology.Sends), topology.SendSubject(p.id, u), msg.Headers(), msg.Data(), f.Reason, err.Error())
		if buried == nil {
			return msg.TermWithReason(f.Reason)
		}
		f.After, err = 0, errors.Join(err, buried)
	}
	if f.After > 0 {
		p.Log.Debug("pack put off", "page", p.id, "after", f.After, "reason", f.Reason, "err", err)
		return msg.NakWithDelay(f.After)
	}
	p.Log.Warn("pack comes again", "page", p.id, "err", err)
	// Grants that were given back are settled by then.
	return msg.NakWithDelay(settled + rand.N(settled))
}

// sayAlive keeps the server from giving the pack to somebody else while it is worked.
func (p *page) sayAlive(ctx context.Context, msg jetstream.Msg) {
	tick := time.NewTicker(p.AckWait / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := msg.InProgress(); err != nil {
				p.Log.Debug("not told that the pack is worked", "page", p.id, "err", err)
			}
		}
	}
}

// cause is the pack's place in the queue: the same when it is delivered twice, different for another pack of the same sends.
func cause(msg jetstream.Msg) (id string, since time.Duration) {
	meta, err := msg.Metadata()
	if err != nil {
		return "0", 0
	}
	return strconv.FormatUint(meta.Sequence.Stream, 10), time.Since(meta.Timestamp)
}

func (j *job) start(ctx context.Context, bad error) error {
	switch {
	case bad != nil:
		return fault.New(fault.Invalid, "bad_pack", fmt.Errorf("pack: %w", bad))
	case j.pack.GetPageId() != j.p.id:
		return fault.New(fault.Invalid, "wrong_page", fmt.Errorf("pack of page %q in the queue of page %q", j.pack.GetPageId(), j.p.id))
	}
	if due := j.pack.GetNotBefore(); due != nil {
		if wait := time.Until(due.AsTime()); wait > 0 {
			return fault.Later(wait, "not_before", errors.New("its time has not come"))
		}
	}
	// A pack that was given out again although it is in work here, or another one with the same sends: the token service
	// takes the second grant for a repeat after a crash, and a second call would go out beside the first.
	if j.taken = j.p.take(j.pack.GetSends()); !j.taken {
		return fault.Later(j.p.AckWait, "in_work", errors.New("a send of the pack is in work here"))
	}
	return j.run(ctx)
}
