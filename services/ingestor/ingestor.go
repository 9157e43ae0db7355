// Package ingestor takes Messenger's webhooks and stores what is in them: one-time opt-ins on OPTINS, all else on EVENTS.
// A webhook that is answered 200 is stored. It judges nothing and knows no person.
package ingestor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/onebell/onebell/pkg/config"
	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/pkg/reload"
	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/ingestor/internal/seal"
	"github.com/onebell/onebell/services/ingestor/internal/tray"
	"github.com/onebell/onebell/services/ingestor/internal/webhook"
)

// Config is what the ingestor needs.
type Config struct {
	stream.Settings
	Addr      config.Addr  `env:"ONEBELL_INGESTOR_ADDR" envDefault:":8080" help:"where the platform's webhooks come in (HTTP, open to everybody: the signature is the door)"`
	PagesFile string       `env:"ONEBELL_PAGES_FILE" envDefault:"pages.yaml" help:"the pages of the business; reloaded when it changes"`
	Listener  net.Listener `env:"-"`
}

const (
	// maxBody is what the platform may send at once (contract, section 1.4).
	maxBody = 4 << 20
	// headroom is what a message needs beside its body.
	headroom = 64 << 10
	// inFlight bounds the memory for bodies: 16 of the largest, or some ten thousand usual ones.
	inFlight = 64 << 20
	// patience is for a whole request (contract, section C).
	patience = 10 * time.Second
	// storing leaves one of the platform's five seconds for the way there and back.
	storing = 4 * time.Second
	// stopping is for the requests that are open: reading and storing.
	stopping = patience + storing + time.Second
	// lookAgain is how often the streams are looked for, should somebody have removed them.
	lookAgain = 15 * time.Second
)

// Run takes webhooks until ctx ends.
func Run(ctx context.Context, cfg Config, p *lifecycle.Process) error {
	ln := cfg.Listener
	if ln == nil {
		var err error
		if ln, err = net.Listen("tcp", string(cfg.Addr)); err != nil {
			return fmt.Errorf("ONEBELL_INGESTOR_ADDR: %w", err)
		}
	}
	defer ln.Close() //nolint:errcheck // the server has closed it, or nothing was served
	keys, err := reload.Open(cfg.PagesFile, parsePages, p.Log, p.Ready, reload.NamesFiles())
	if err != nil {
		return fmt.Errorf("ONEBELL_PAGES_FILE: %w", err)
	}
	nc, js, err := stream.Connect(cfg.NATSURL, "ingestor", p.Log, p.Ready)
	if err != nil {
		return err
	}
	defer nc.Close()
	var there atomic.Bool
	p.Ready.Check("ingestor: streams", func(context.Context) error {
		if !there.Load() {
			return errors.New("not there yet")
		}
		return nil
	})
	handler := webhook.New(keys.Get, tray.New(js), webhook.Limits{
		Body:     func() int { return bodyLimit(nc.MaxPayload()) },
		InFlight: inFlight, Request: patience, Store: storing,
	}, p.Log)
	srv, ln := webhook.Server(handler, ln, p.Log)
	p.Log.Info("listening", "addr", ln.Addr().String())

	return lifecycle.Run(ctx, stopping,
		lifecycle.Part{Name: "pages", Run: keys.Watch},
		lifecycle.Part{Name: "streams", Run: func(ctx context.Context) error {
			for {
				if err := stream.Ensure(ctx, js, topology.Configs(cfg.Replicas), p.Log); err != nil {
					return nil //nolint:nilerr // ctx ended first
				}
				if !there.Swap(true) {
					tellLimit(nc, p)
				}
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(lookAgain):
				}
			}
		}},
		lifecycle.HTTPServer("webhook", ln, srv),
	)
}

func parsePages(text []byte) (*seal.Keys, error) {
	f, err := pages.Parse(text, os.LookupEnv)
	return seal.New(f), err
}

// bodyLimit is the largest body that is taken when the server takes messages of maxPayload bytes; 0: not connected yet.
func bodyLimit(maxPayload int64) int {
	switch {
	case maxPayload <= 0:
		return maxBody
	case maxPayload <= 2*headroom:
		return int(maxPayload / 2)
	}
	return int(min(maxBody, maxPayload-headroom))
}

func tellLimit(nc *nats.Conn, p *lifecycle.Process) {
	if limit := bodyLimit(nc.MaxPayload()); limit < maxBody {
		p.Log.Warn("the NATS server takes smaller messages than a webhook can be: larger bodies are answered 413",
			"max_payload", nc.MaxPayload(), "largest_body", limit, "wanted_max_payload", maxBody+headroom)
	}
}
