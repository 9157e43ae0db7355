// Package token is the token service: it keeps permissions and people in Redis and answers gRPC. See README.md.
package token

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/onebell/onebell/pkg/config"
	"github.com/onebell/onebell/pkg/door"
	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/pkg/redislua"
	"github.com/onebell/onebell/pkg/reload"
	"github.com/onebell/onebell/pkg/rpc"
	"github.com/onebell/onebell/pkg/stream"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/rules"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/token/internal/index"
	"github.com/onebell/onebell/services/token/internal/intake"
	"github.com/onebell/onebell/services/token/internal/ledger"
	"github.com/onebell/onebell/services/token/internal/seal"
	"github.com/onebell/onebell/services/token/internal/server"
	"github.com/onebell/onebell/services/token/internal/sweep"
)

// Config are the settings of the service.
type Config struct {
	stream.Settings
	Redis     redislua.Settings
	Door      door.Settings
	Addr      config.Addr `env:"ONEBELL_TOKEN_ADDR" envDefault:"127.0.0.1:7001" help:"gRPC of the token service: listens there; others call it there"`
	SealKey   seal.Keys   `env:"ONEBELL_SEAL_KEY" help:"keys that seal tokens in Redis: base64 of 32 bytes, optionally keyid: in front, comma-separated; the first seals (required)" secret:"yes"`
	RulesFile string      `env:"ONEBELL_RULES_FILE" envDefault:"rules.yaml" help:"segments, tags, payloads and alerts; reloaded when it changes"`

	Listener net.Listener `env:"-"` // instead of Addr
}

// Validate names what is missing.
func (c *Config) Validate() (problems []error) {
	if c.SealKey.Empty() {
		problems = append(problems, errors.New("ONEBELL_SEAL_KEY is not set: expected base64 of 32 bytes, for example from: head -c 32 /dev/urandom | base64"))
	}
	return problems
}

// stopLimit bounds the stop of one part: open calls get 10 s (package rpc), a message in work its own 30 s at most, usually
// milliseconds.
const stopLimit = 15 * time.Second

// Run runs the service until ctx ends.
func Run(ctx context.Context, cfg Config, p *lifecycle.Process) error {
	ln := cfg.Listener
	if ln == nil {
		var err error
		if ln, err = net.Listen("tcp", string(cfg.Addr)); err != nil {
			return err
		}
	}
	guard, err := door.Open(ln.Addr(), cfg.Door, p.Log, p.Ready)
	if err != nil {
		return err
	}
	rulesFile, err := reload.Open(cfg.RulesFile, rules.Parse, p.Log, p.Ready)
	if err != nil {
		return fmt.Errorf("ONEBELL_RULES_FILE: %w", err)
	}
	nc, js, err := stream.Connect(cfg.NATSURL, "token", p.Log, p.Ready)
	if err != nil {
		return err
	}
	defer nc.Close()
	rdb, err := redislua.Open(cfg.Redis.RedisURL)
	if err != nil {
		return fmt.Errorf("ONEBELL_REDIS_URL: %w", err)
	}
	defer func() { _ = rdb.Close() }()
	p.Ready.Check("token: Redis", func(ctx context.Context) error { return rdb.Ping(ctx).Err() })

	book := ledger.New(rdb, &cfg.SealKey)
	in := &intake.Intake{JS: js, Ledger: book, Rules: rulesFile.Get, Log: p.Log}
	idx := index.New(js, book, in.ApplyMarks, in.Apply, map[string][]string{topology.Events: intake.EventSubjects()}, p.Log)
	in.Ready = idx.Ready
	p.Ready.Check("token: index", func(context.Context) error { return idx.Ready() })
	srv := rpc.NewServer(guard, server.Policy, p.Log)
	tokenv1.RegisterTokenServiceServer(srv, &server.Server{JS: js, Ledger: book, Index: idx, Intake: in})

	sweeper := &sweep.Sweeper{Ledger: book, Ready: idx.Ready, Log: p.Log}

	parts := []lifecycle.Part{
		{Name: "tokens file", Run: guard.Watch},
		{Name: "rules file", Run: rulesFile.Watch},
		// From the first moment: while the index is not complete, calls are answered UNAVAILABLE.
		rpc.Serve("grpc", ln, srv),
		{Name: "index", Run: func(ctx context.Context) error { return run(ctx, cfg, idx, in, p) }},
		{Name: "sweeper", Run: sweeper.Run},
	}
	return lifecycle.Run(ctx, stopLimit, parts...)
}

// run makes the streams, then keeps the index complete and works the live facts.
func run(ctx context.Context, cfg Config, idx *index.Index, in *intake.Intake, p *lifecycle.Process) error {
	if err := stream.Ensure(ctx, in.JS, topology.Configs(cfg.Replicas), p.Log); err != nil {
		return ctx.Err()
	}
	handles, err := index.Ensured(ctx, in.JS, p.Log, in.Consumers()...)
	if err != nil {
		return ctx.Err()
	}
	parts := []lifecycle.Part{
		{Name: "index", Run: idx.Run},
		{Name: "seen", Run: func(ctx context.Context) error { return idx.NoteSeen(ctx, handles) }},
	}
	for _, c := range in.Consumers() {
		parts = append(parts, lifecycle.Part{Name: "facts of " + c.Stream, Run: func(ctx context.Context) error { return c.Run(ctx, in.JS) }})
	}
	return lifecycle.Run(ctx, stopLimit, parts...)
}
