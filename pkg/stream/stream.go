// Package stream is how services talk to NATS JetStream: connecting, making streams, publishing with the trace, and
// consuming with one place in which a message is acknowledged. It knows no stream by name.
package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"

	"github.com/onebell/onebell/pkg/admin"
)

// Settings of a program that talks to NATS.
type Settings struct {
	NATSURL  string `env:"ONEBELL_NATS_URL" envDefault:"nats://127.0.0.1:4222" help:"where NATS is; several servers separated by commas" secret:"url"`
	Replicas int    `env:"ONEBELL_STREAM_REPLICAS" envDefault:"1" help:"copies of each stream: 1 alone, 3 in a cluster"`
}

// Connect opens a connection that never gives up. It returns at once: while NATS is away, publishing fails and
// `ready` says so. Pings every 5 s notice a dead server within 10 to 15 s.
func Connect(url, name string, log *slog.Logger, ready *admin.Readiness) (*nats.Conn, jetstream.JetStream, error) {
	nc, err := nats.Connect(url, nats.Name(name),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(250*time.Millisecond),
		nats.PingInterval(5*time.Second), nats.MaxPingsOutstanding(2), nats.DrainTimeout(5*time.Second),
		// No buffer while away: whoever publishes must know at once that it is not stored.
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if !nc.IsClosed() { // by ourselves, at the end
				log.Warn("NATS is away", "err", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) { log.Info("NATS is back", "url", nc.ConnectedUrlRedacted()) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Warn("NATS", "err", err) }),
	)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to NATS: %w", err)
	}
	// 5 s is above the time a stream needs for a new leader after an orderly step-down, and below the platform's patience.
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(5*time.Second), jetstream.WithPublishAsyncTimeout(5*time.Second))
	if err != nil {
		nc.Close()
		return nil, nil, fmt.Errorf("connect to JetStream: %w", err)
	}
	ready.Check(name+": NATS", func(context.Context) error {
		if !nc.IsConnected() {
			return fmt.Errorf("not connected: %s", nc.Status())
		}
		return nil
	})
	return nc, js, nil
}

// Ensure makes the streams that are missing, and keeps those there are, until it has succeeded or ctx ends. Services may
// do so at the same time.
func Ensure(ctx context.Context, js jetstream.JetStream, configs []jetstream.StreamConfig, log *slog.Logger) error {
	return Until(ctx, log, "streams are not there yet", func(ctx context.Context) error {
		for _, c := range configs {
			if err := ensure(ctx, js, c); err != nil {
				return fmt.Errorf("stream %s: %w", c.Name, err)
			}
		}
		return nil
	})
}

func ensure(ctx context.Context, js jetstream.JetStream, c jetstream.StreamConfig) error {
	_, err := js.Stream(ctx, c.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = js.CreateStream(ctx, c)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return nil // somebody else was faster
		}
	}
	return err
}

// EnsureBucket is Ensure for a key-value bucket.
func EnsureBucket(ctx context.Context, js jetstream.JetStream, c jetstream.KeyValueConfig, log *slog.Logger) (kv jetstream.KeyValue, err error) {
	err = Until(ctx, log, "bucket is not there yet", func(ctx context.Context) error {
		kv, err = js.KeyValue(ctx, c.Bucket)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			kv, err = js.CreateKeyValue(ctx, c)
			if errors.Is(err, jetstream.ErrBucketExists) {
				kv, err = js.KeyValue(ctx, c.Bucket)
			}
		}
		return err
	})
	return kv, err
}

// Until does something again every quarter of a second, each try with 2 s, until it has succeeded or ctx ends. What goes
// wrong is logged at the first try and then every 5 s.
func Until(ctx context.Context, log *slog.Logger, complaint string, try func(context.Context) error) error {
	var said time.Time
	for {
		one, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := try(one)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil && time.Since(said) > 5*time.Second {
			log.Warn(complaint, "err", err)
			said = time.Now()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", complaint, err)
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// NewMsg makes a message with its id (empty: none) and the trace of ctx.
func NewMsg(ctx context.Context, subject, id string, data []byte) *nats.Msg {
	msg := nats.NewMsg(subject)
	msg.Data = data
	if id != "" {
		msg.Header.Set(nats.MsgIdHdr, id)
	}
	otel.GetTextMapPropagator().Inject(ctx, carrier(msg.Header))
	return msg
}

// TraceContext is ctx with the trace that a message carries.
func TraceContext(ctx context.Context, h nats.Header) context.Context {
	return otel.GetTextMapPropagator().Extract(ctx, carrier(h))
}

// PublishAll publishes the messages together and waits until every one is stored. On an error some may be stored:
// publishing all of them again must be harmless.
func PublishAll(ctx context.Context, js jetstream.JetStream, msgs ...*nats.Msg) error {
	_, err := Publish(ctx, js, msgs...)
	return err
}

// Publish is PublishAll that says where each message is stored.
func Publish(ctx context.Context, js jetstream.JetStream, msgs ...*nats.Msg) ([]*jetstream.PubAck, error) {
	if len(msgs) == 1 {
		ack, err := js.PublishMsg(ctx, msgs[0])
		return []*jetstream.PubAck{ack}, err
	}
	futures := make([]jetstream.PubAckFuture, 0, len(msgs))
	for _, msg := range msgs {
		// A full window is waited for, but not beyond ctx.
		stall := 5 * time.Second
		if end, ok := ctx.Deadline(); ok {
			stall = min(stall, time.Until(end))
		}
		if err := ctx.Err(); err != nil || stall <= 0 {
			return nil, cmp.Or(err, context.DeadlineExceeded)
		}
		f, err := js.PublishMsgAsync(msg, jetstream.WithStallWait(stall))
		if err != nil {
			return nil, err
		}
		futures = append(futures, f)
	}
	acks := make([]*jetstream.PubAck, 0, len(msgs))
	for _, f := range futures {
		select {
		case ack := <-f.Ok():
			acks = append(acks, ack)
		case err := <-f.Err():
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return acks, nil
}

// carrier lets the propagator write into NATS headers, whose names keep their case.
type carrier nats.Header

var _ propagation.TextMapCarrier = carrier{}

func (c carrier) Get(key string) string { return nats.Header(c).Get(key) }
func (c carrier) Set(key, value string) { nats.Header(c).Set(key, value) }

func (c carrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for k := range c {
		keys = append(keys, k)
	}
	return keys
}
