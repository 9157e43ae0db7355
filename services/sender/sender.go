// Package sender takes packs of sends, calls the platform's Send API at the pace that each page permits, and writes down
// what became of each. It decides nothing about people, only about answers.
package sender

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/onebell/onebell/pkg/config"
	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/pkg/redislua"
	"github.com/onebell/onebell/pkg/reload"
	"github.com/onebell/onebell/pkg/rpc"
	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/sender/internal/desk"
	"github.com/onebell/onebell/services/sender/internal/grants"
	"github.com/onebell/onebell/services/sender/internal/graph"
	"github.com/onebell/onebell/services/sender/internal/ledger"
	"github.com/onebell/onebell/services/sender/internal/pace"
	"github.com/onebell/onebell/services/sender/internal/products"
)

// Config are the sender's settings. It has no listener of its own.
type Config struct {
	stream.Settings
	Redis        redislua.Settings
	Client       rpc.ClientSettings
	TokenAddr    config.Addr    `env:"ONEBELL_TOKEN_ADDR" envDefault:"127.0.0.1:7001" help:"gRPC address of the token service"`
	PagesFile    string         `env:"ONEBELL_PAGES_FILE" envDefault:"pages.yaml" help:"the pages, their tokens and limits; reloaded when it changes"`
	GraphURL     config.HTTPURL `env:"ONEBELL_GRAPH_URL" envDefault:"https://graph.facebook.com" help:"where the platform is: scheme, host, optional path, without the version"`
	GraphVersion Version        `env:"ONEBELL_GRAPH_VERSION" envDefault:"v25.0" help:"version of the platform's API"`
	GraphTimeout time.Duration  `env:"ONEBELL_GRAPH_TIMEOUT" envDefault:"10s" help:"limit of one call, from dial to last byte"`

	// ackWait is shorter in tests.
	ackWait time.Duration
}

// Version is a version of the platform's API, like v25.0.
type Version string

var versionForm = regexp.MustCompile(`^v\d+\.\d+$`)

// UnmarshalText checks the form.
func (v *Version) UnmarshalText(text []byte) error {
	if !versionForm.Match(text) {
		return &config.Expected{What: "a version like v25.0"}
	}
	*v = Version(text)
	return nil
}

// maxGraphTimeout leaves 10 s of the 25 s of a stop for writing what became of the last call (README).
const maxGraphTimeout = 15 * time.Second

// Validate checks what the types cannot.
func (c Config) Validate() []error {
	var problems []error
	if c.GraphTimeout <= 0 || c.GraphTimeout > maxGraphTimeout {
		problems = append(problems, config.Problem("ONEBELL_GRAPH_TIMEOUT", c.GraphTimeout.String(), "a time up to 15s: a stop must end within 25 s"))
	}
	return problems
}

const (
	// ackWait: a send in flight in a killed process is taken up again within 30 s of the restart. A pack is given out again
	// this long after the last sign of life, whenever the restart is: half of the 30 s is left for the restart itself, the
	// first pull and the wait for a turn.
	ackWait = 15 * time.Second
	// connections is how many idle connections to the platform are kept, over all pages.
	connections = 512
	// stopLimit: see the README.
	stopLimit = 25 * time.Second
)

// Run works until ctx ends, then finishes or releases what was taken.
func Run(ctx context.Context, cfg Config, p *lifecycle.Process) error {
	file, err := reload.Open(cfg.PagesFile, func(text []byte) (pages.File, error) { return pages.Parse(text, os.LookupEnv) }, p.Log, p.Ready, reload.NamesFiles())
	if err != nil {
		return fmt.Errorf("pages: %w", err)
	}
	token, err := cfg.Client.Token()
	if err != nil {
		return err
	}
	rdb, err := redislua.Open(cfg.Redis.RedisURL)
	if err != nil {
		return err
	}
	defer func() { _ = rdb.Close() }()
	p.Ready.Check("sender: Redis", func(ctx context.Context) error { return rdb.Ping(ctx).Err() })
	conn, err := rpc.Dial(string(cfg.TokenAddr), token, 5*time.Second)
	if err != nil {
		return fmt.Errorf("token service: %w", err)
	}
	defer func() { _ = conn.Close() }()
	nc, js, err := stream.Connect(cfg.NATSURL, "sender", p.Log, p.Ready)
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := stream.Ensure(ctx, js, topology.Configs(cfg.Replicas), p.Log); err != nil {
		return stopped(ctx, err)
	}
	kv, err := stream.EnsureBucket(ctx, js, topology.ProductsConfig(cfg.Replicas), p.Log)
	if err != nil {
		return stopped(ctx, err)
	}
	platform := graph.New(string(cfg.GraphURL), string(cfg.GraphVersion), cfg.GraphTimeout, connections)
	defer platform.Close()
	if cfg.ackWait == 0 {
		cfg.ackWait = ackWait
	}
	d := &desk.Desk{
		JS: js, Pages: file.Get, Grants: grants.New(conn), Products: products.New(kv), Graph: platform,
		Pace: pace.NewStore(rdb), Ledger: ledger.New(js), Log: p.Log, CallLimit: cfg.GraphTimeout, AckWait: cfg.ackWait,
	}
	p.Ready.Note("sender", d.Note)
	return lifecycle.Run(ctx, stopLimit,
		lifecycle.Part{Name: "pages file", Run: file.Watch},
		lifecycle.Part{Name: "packs", Run: d.Run},
	)
}

// stopped is no error when the service was asked to stop before NATS was there.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
