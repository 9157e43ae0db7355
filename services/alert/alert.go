// Package alert is the service that turns stock, price and sale events into sends.
package alert

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onebell/onebell/pkg/config"
	"github.com/onebell/onebell/pkg/door"
	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/pkg/reload"
	"github.com/onebell/onebell/pkg/rpc"
	"github.com/onebell/onebell/pkg/stream"
	alertv1 "github.com/onebell/onebell/proto/onebell/alert/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/proto/rules"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/alert/internal/explain"
	"github.com/onebell/onebell/services/alert/internal/intake"
	"github.com/onebell/onebell/services/alert/internal/products"
	"github.com/onebell/onebell/services/alert/internal/waves"
)

// Config is what the service needs to know.
type Config struct {
	stream.Settings
	Door      door.Settings
	Client    rpc.ClientSettings
	Addr      config.Addr `env:"ONEBELL_ALERT_ADDR" envDefault:"127.0.0.1:7002" help:"gRPC listener of the alert service"`
	HTTPAddr  config.Addr `env:"ONEBELL_ALERT_HTTP_ADDR" envDefault:"127.0.0.1:8082" help:"HTTP listener of the alert service: POST /v1/events"`
	TokenAddr config.Addr `env:"ONEBELL_TOKEN_ADDR" envDefault:"127.0.0.1:7001" help:"where the token service answers"`
	PagesFile string      `env:"ONEBELL_PAGES_FILE" envDefault:"pages.yaml" help:"the pages of the business"`
	RulesFile string      `env:"ONEBELL_RULES_FILE" envDefault:"rules.yaml" help:"which events make alerts, for whom, with which words"`

	Listener     net.Listener `env:"-"` // gRPC; nil: listen on Addr
	HTTPListener net.Listener `env:"-"` // HTTP; nil: listen on HTTPAddr
}

// policy says who may call what over gRPC.
var policy = rpc.Policy{
	alertv1.AlertService_PublishEvents_FullMethodName: {door.Publisher, door.Operator},
	alertv1.AlertService_Explain_FullMethodName:       {door.Operator, door.Caller},
}

const (
	// bodyLimit bounds the time in which a publisher's 4 MiB must come.
	bodyLimit = 30 * time.Second
	// callLimit bounds calls to the token service that have no deadline of their own.
	callLimit = 10 * time.Second
	// stopLimit bounds the stop of one part: open requests get 10 s, a wave's step ends in a few.
	stopLimit = 15 * time.Second
)

// Run serves until ctx ends.
func Run(ctx context.Context, cfg Config, p *lifecycle.Process) error {
	ln, guard, err := listen(cfg.Listener, cfg.Addr, cfg.Door, p)
	if err != nil {
		return fmt.Errorf("gRPC listener: %w", err)
	}
	defer func() { _ = ln.Close() }()
	httpLn, httpGuard, err := listen(cfg.HTTPListener, cfg.HTTPAddr, cfg.Door, p)
	if err != nil {
		return fmt.Errorf("HTTP listener: %w", err)
	}
	defer func() { _ = httpLn.Close() }()
	pageFile, err := reload.Open(cfg.PagesFile, func(b []byte) (pages.File, error) { return pages.Parse(b, os.LookupEnv) }, p.Log, p.Ready, reload.NamesFiles())
	if err != nil {
		return fmt.Errorf("ONEBELL_PAGES_FILE: %w", err)
	}
	ruleFile, err := reload.Open(cfg.RulesFile, rules.Parse, p.Log, p.Ready)
	if err != nil {
		return fmt.Errorf("ONEBELL_RULES_FILE: %w", err)
	}
	nc, js, err := stream.Connect(cfg.NATSURL, "alert", p.Log, p.Ready)
	if err != nil {
		return err
	}
	defer nc.Close()
	bearer, err := cfg.Client.Token()
	if err != nil {
		return err
	}
	conn, err := rpc.Dial(string(cfg.TokenAddr), bearer, callLimit)
	if err != nil {
		return fmt.Errorf("token service: %w", err)
	}
	defer func() { _ = conn.Close() }()
	token := tokenv1.NewTokenServiceClient(conn)

	events := intake.Intake{JS: js, Log: p.Log}
	srv := rpc.NewServer(guard, policy, p.Log)
	alertv1.RegisterAlertServiceServer(srv, server{events: events, facts: explain.Reader{JS: js, Token: token, Log: p.Log}})
	mux := http.NewServeMux()
	mux.Handle("POST /v1/events", httpGuard.HTTP(events, door.Publisher, door.Operator))

	return lifecycle.Run(ctx, stopLimit,
		lifecycle.Part{Name: "pages file", Run: pageFile.Watch},
		lifecycle.Part{Name: "rules file", Run: ruleFile.Watch},
		lifecycle.Part{Name: "gRPC door", Run: guard.Watch},
		lifecycle.Part{Name: "HTTP door", Run: httpGuard.Watch},
		desks(js, cfg.Replicas, p, func(store products.Store) (inventory, wave stream.Consumer) {
			return intake.Desk{JS: js, Products: store, Pages: pageFile, Rules: ruleFile, Log: p.Log}.Consumer(),
				waves.Desk{JS: js, Products: store, Token: token, Pages: pageFile, Rules: ruleFile, Log: p.Log}.Consumer()
		}),
		rpc.Serve("gRPC", ln, srv),
		lifecycle.HTTPServer("HTTP", httpLn, &http.Server{
			Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: bodyLimit, IdleTimeout: time.Minute,
		}),
	)
}

// server is the gRPC door: each method is another room's.
type server struct {
	alertv1.UnimplementedAlertServiceServer
	events intake.Intake
	facts  explain.Reader
}

func (s server) PublishEvents(ctx context.Context, req *alertv1.PublishEventsRequest) (*alertv1.PublishEventsResponse, error) {
	return s.events.PublishEvents(ctx, req)
}

func (s server) Explain(ctx context.Context, req *alertv1.ExplainRequest) (*alertv1.ExplainResponse, error) {
	return s.facts.Explain(ctx, req)
}

func listen(ln net.Listener, addr config.Addr, s door.Settings, p *lifecycle.Process) (net.Listener, *door.Door, error) {
	var err error
	if ln == nil {
		if ln, err = net.Listen("tcp", string(addr)); err != nil {
			return nil, nil, err
		}
	}
	guard, err := door.Open(ln.Addr(), s, p.Log, p.Ready)
	if err != nil {
		return nil, nil, errors.Join(err, ln.Close())
	}
	return ln, guard, nil
}

// desks is the part that works the streams, once they are there. Until then the doors answer that nothing can be stored.
func desks(js jetstream.JetStream, replicas int, p *lifecycle.Process, make func(products.Store) (inventory, wave stream.Consumer)) lifecycle.Part {
	var there atomic.Bool
	p.Ready.Check("alert: streams", func(context.Context) error {
		if !there.Load() {
			return errors.New("not there yet")
		}
		return nil
	})
	return lifecycle.Part{Name: "streams", Run: func(ctx context.Context) error {
		if err := stream.Ensure(ctx, js, topology.Configs(replicas), p.Log); err != nil {
			return nil //nolint:nilerr // ctx ended before NATS was there
		}
		kv, err := stream.EnsureBucket(ctx, js, topology.ProductsConfig(replicas), p.Log)
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		inventory, wave := make(products.Store{KV: kv})
		there.Store(true)
		return together(ctx, js, inventory, wave)
	}}
}

// together runs consumers until ctx ends; when one fails, all end.
func together(ctx context.Context, js jetstream.JetStream, consumers ...stream.Consumer) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	failed := make([]error, len(consumers))
	for i, c := range consumers {
		wg.Go(func() {
			defer stop()
			failed[i] = c.Run(ctx, js)
		})
	}
	wg.Wait()
	return errors.Join(failed...)
}
