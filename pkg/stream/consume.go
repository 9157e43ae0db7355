package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/onebell/onebell/pkg/fault"
)

// Headers that every dead letter has. Its body is the original, its other headers are kept.
const (
	HeaderReason   = "Onebell-Reason"    // short code
	HeaderDetail   = "Onebell-Detail"    // words for a reader
	HeaderSubject  = "Onebell-Subject"   // where it came from
	HeaderFailedAt = "Onebell-Failed-At" // RFC 3339
)

// Consumer works the messages of one durable consumer.
type Consumer struct {
	Stream   string
	Durable  string
	Subjects []string      // filter; none: all of the stream
	AckWait  time.Duration // a message whose worker died comes again after this; 0 means 30 s
	Workers  int           // messages worked at the same time in this process; 0 means 1
	// MaxPending bounds the messages that are out or put off, over all processes; 0 means 1000.
	MaxPending int
	// DeadSubject is where messages go that can never be worked, with the reason. Required.
	DeadSubject string
	// Double waits for the server's word that the acknowledgement is stored: for work queues, where a repeat costs.
	Double bool
	Log    *slog.Logger
	// Handle decides. nil: done. A fault of kind Invalid: never, the message goes to DeadSubject. Any other error: again,
	// after its delay, or a growing one. It must be harmless to see a message twice.
	Handle func(ctx context.Context, msg jetstream.Msg) error
}

// Ensure makes the durable consumer if it is missing. MaxDeliver stays unlimited: giving up is our own decision.
func (c Consumer) Ensure(ctx context.Context, js jetstream.JetStream) (jetstream.Consumer, error) {
	return js.CreateOrUpdateConsumer(ctx, c.Stream, jetstream.ConsumerConfig{
		Durable: c.Durable, FilterSubjects: c.Subjects, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: orDefault(c.AckWait, 30*time.Second), MaxAckPending: orDefault(c.MaxPending, 1000), MaxDeliver: -1,
	})
}

// Run works messages until ctx ends, then finishes those it has begun; what it has not begun comes again. A consumer that
// somebody deleted meanwhile is made anew.
func (c Consumer) Run(ctx context.Context, js jetstream.JetStream) error {
	for {
		var cons jetstream.Consumer
		err := Until(ctx, c.Log, "consumer "+c.Durable+" is not there yet", func(ctx context.Context) (err error) {
			cons, err = c.Ensure(ctx, js)
			return err
		})
		if err != nil {
			return nil //nolint:nilerr // ctx ended before NATS was there
		}
		if err := c.pull(ctx, js, cons); err != nil || ctx.Err() != nil {
			return err
		}
		c.Log.Warn("consumer is gone", "consumer", c.Durable)
	}
}

// pull works messages until ctx ends or the consumer is gone.
func (c Consumer) pull(ctx context.Context, js jetstream.JetStream, cons jetstream.Consumer) error {
	workers := orDefault(c.Workers, 1)
	// The short heartbeat bounds a stalled pull (seen with nats.go 1.55: the client stops asking).
	it, err := cons.Messages(jetstream.PullMaxMessages(2*workers), jetstream.PullHeartbeat(time.Second), jetstream.PullExpiry(10*time.Second))
	if err != nil {
		return fmt.Errorf("consume %s: %w", c.Durable, err)
	}
	defer context.AfterFunc(ctx, it.Stop)()
	// What is begun is finished, whatever happens to ctx, within the acknowledgement time.
	work := context.WithoutCancel(ctx)
	var wg sync.WaitGroup
	slots := make(chan struct{}, workers)
	for {
		msg, err := it.Next()
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) || errors.Is(err, jetstream.ErrConsumerDeleted) || ctx.Err() != nil {
			break
		}
		if err != nil {
			c.Log.Debug("pull", "consumer", c.Durable, "err", err)
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			c.one(work, js, msg)
		})
	}
	it.Stop()
	wg.Wait()
	return nil
}

var worked = func() metric.Int64Counter {
	counter, _ := otel.Meter("onebell/stream").Int64Counter("onebell_messages", metric.WithDescription("messages worked, by consumer and what was decided"))
	return counter
}()

// one works a message and acknowledges it: the only place where that happens.
func (c Consumer) one(ctx context.Context, js jetstream.JetStream, msg jetstream.Msg) {
	ctx = TraceContext(ctx, msg.Headers())
	ctx, span := otel.Tracer("onebell/stream").Start(ctx, "work "+c.Durable, trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(attribute.String("messaging.destination.name", msg.Subject())))
	defer span.End()
	limited, cancel := context.WithTimeout(ctx, orDefault(c.AckWait, 30*time.Second))
	err := c.handle(limited, msg)
	cancel()

	decided := "done"
	f := fault.Of(err)
	switch {
	case err == nil:
		err = c.ack(ctx, msg)
	case f.Kind == fault.Invalid:
		decided = "never"
		c.Log.Warn("message given up", "consumer", c.Durable, "subject", msg.Subject(), "reason", f.Reason, "err", err)
		if err = c.bury(ctx, js, msg, f.Reason, err); err != nil {
			decided, err = "again", errors.Join(err, msg.NakWithDelay(delay(msg, 0)))
		}
	default:
		decided = "again"
		if after := delay(msg, f.After); f.After > 0 {
			c.Log.Debug("message put off", "consumer", c.Durable, "subject", msg.Subject(), "after", after, "reason", f.Reason, "err", err)
			err = msg.NakWithDelay(after)
		} else {
			c.Log.Warn("message comes again", "consumer", c.Durable, "subject", msg.Subject(), "after", after, "err", err)
			err = msg.NakWithDelay(after)
		}
	}
	worked.Add(ctx, 1, metric.WithAttributes(attribute.String("consumer", c.Durable), attribute.String("decided", decided)))
	if err != nil {
		// The message comes again by itself after AckWait.
		c.Log.Warn("acknowledgement failed", "consumer", c.Durable, "subject", msg.Subject(), "err", err)
	}
}

// handle asks Handle. A panic is a mistake of ours in one message: the others are worked all the same.
func (c Consumer) handle(ctx context.Context, msg jetstream.Msg) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.Log.Error("panic at a message", "consumer", c.Durable, "subject", msg.Subject(), "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return c.Handle(ctx, msg)
}

func (c Consumer) ack(ctx context.Context, msg jetstream.Msg) error {
	if !c.Double {
		return msg.Ack()
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return msg.DoubleAck(ctx)
}

// bury keeps a copy of a message in the dead letters, then ends it.
func (c Consumer) bury(ctx context.Context, js jetstream.JetStream, msg jetstream.Msg, reason string, cause error) error {
	if err := Bury(ctx, js, c.DeadSubject, msg.Subject(), msg.Headers(), msg.Data(), reason, cause.Error()); err != nil {
		return err
	}
	return msg.TermWithReason(reason)
}

// Bury publishes a dead letter: the original body, its headers, and why. Burying the same message again within the
// stream's duplicate window is one letter.
func Bury(ctx context.Context, js jetstream.JetStream, deadSubject, subject string, headers nats.Header, body []byte, reason, detail string) error {
	dead := nats.NewMsg(deadSubject)
	maps.Copy(dead.Header, headers)
	// What the publisher asked of the server (Nats-Expected-…, Nats-TTL, …) was about the first stream: this one would refuse
	// it, for ever.
	maps.DeleteFunc(dead.Header, func(name string, _ []string) bool { return strings.HasPrefix(strings.ToLower(name), "nats-") })
	dead.Data = body
	if id := headers.Get(nats.MsgIdHdr); id != "" {
		dead.Header.Set(nats.MsgIdHdr, subject+"|"+id)
	}
	dead.Header.Set(HeaderReason, reason)
	dead.Header.Set(HeaderDetail, headerValue(detail))
	dead.Header.Set(HeaderSubject, subject)
	dead.Header.Set(HeaderFailedAt, time.Now().UTC().Format(time.RFC3339Nano))
	_, err := js.PublishMsg(ctx, dead)
	if errors.Is(err, nats.ErrMaxPayload) && len(body) > room {
		// The largest of messages leaves no room for the reason: a letter without its end is better than one that blocks its
		// stream.
		dead.Data = body[:len(body)-room]
		dead.Header.Set(HeaderDetail, headerValue(fmt.Sprintf("(without the last %d bytes) %s", room, detail)))
		_, err = js.PublishMsg(ctx, dead)
	}
	if err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	return nil
}

// room is what the headers of a dead letter take at most: its own four, and those of the original.
const room = 16 << 10

// headerValue is text as a header can hold it: one line, at most 500 bytes.
func headerValue(s string) string {
	if len(s) > 500 {
		s = s[:500]
	}
	out := []byte(s)
	for i, b := range out {
		if b < ' ' || b == 0x7f {
			out[i] = ' '
		}
	}
	return string(out)
}

// delay is the time after which a message comes again: the asked one, else from 250 ms doubling up to 30 s by the
// number of deliveries, with a fifth of jitter so that a crowd does not return at once.
func delay(msg jetstream.Msg, asked time.Duration) time.Duration {
	if asked > 0 {
		return asked
	}
	deliveries := uint64(1)
	if meta, err := msg.Metadata(); err == nil {
		deliveries = meta.NumDelivered
	}
	d := min(30*time.Second, 250*time.Millisecond<<min(deliveries-1, 7))
	return d + rand.N(d/5)
}

func orDefault[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}
