// Package console serves the web page for operators and merchandisers. It only reads: streams through JetStream,
// permissions from the token service, stories from the alert service.
package console

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/onebell/onebell/pkg/config"
	"github.com/onebell/onebell/pkg/door"
	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/pkg/reload"
	"github.com/onebell/onebell/pkg/rpc"
	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/services/console/internal/ask"
	"github.com/onebell/onebell/services/console/internal/tail"
	"github.com/onebell/onebell/services/console/internal/web"
)

// Config are the settings of the console.
type Config struct {
	Addr      config.Addr  `env:"ONEBELL_CONSOLE_ADDR" envDefault:"127.0.0.1:8090" help:"where the page is served"`
	Listener  net.Listener `env:"-"` // already bound, instead of Addr
	Door      door.Settings
	NATS      stream.Settings
	Client    rpc.ClientSettings
	TokenAddr config.Addr `env:"ONEBELL_TOKEN_ADDR" envDefault:"127.0.0.1:7001" help:"where the token service answers"`
	AlertAddr config.Addr `env:"ONEBELL_ALERT_ADDR" envDefault:"127.0.0.1:7002" help:"where the alert service answers"`
	PagesFile string      `env:"ONEBELL_PAGES_FILE" envDefault:"pages.yaml" help:"the pages of the business"`
}

// lastOutcomes is how many outcomes the page shows: about two screens.
const lastOutcomes = 50

// stopLimit bounds the stop of one part: open requests get 10 s, a JetStream call under way as many.
const stopLimit = 15 * time.Second

// Run serves the page until ctx ends.
func Run(ctx context.Context, cfg Config, p *lifecycle.Process) error {
	ln := cfg.Listener
	if ln == nil {
		var err error
		if ln, err = net.Listen("tcp", string(cfg.Addr)); err != nil {
			return fmt.Errorf("console listener: %w", err)
		}
	}
	defer ln.Close() //nolint:errcheck // the server has closed it
	guard, err := door.Open(ln.Addr(), cfg.Door, p.Log, p.Ready)
	if err != nil {
		return err
	}
	file, err := reload.Open(cfg.PagesFile, func(b []byte) (pages.File, error) { return pages.Parse(b, os.LookupEnv) }, p.Log, p.Ready, reload.NamesFiles())
	if err != nil {
		return fmt.Errorf("ONEBELL_PAGES_FILE: %w", err)
	}
	nc, js, err := stream.Connect(cfg.NATS.NATSURL, "console", p.Log, p.Ready)
	if err != nil {
		return err
	}
	defer nc.Close()
	services, err := ask.Dial(string(cfg.TokenAddr), string(cfg.AlertAddr), cfg.Client)
	if err != nil {
		return err
	}
	defer services.Close()

	outcomes := tail.New(js, lastOutcomes, p.Log)
	site := web.New(web.Parts{Log: p.Log, Door: guard, Pages: file.Get, Outcomes: outcomes, JetStream: js, Services: services, Version: p.Version})
	srv := &http.Server{
		Handler: site, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
	}
	srv.RegisterOnShutdown(site.Close)
	return lifecycle.Run(ctx, stopLimit,
		lifecycle.Part{Name: "pages file", Run: file.Watch},
		lifecycle.Part{Name: "api tokens", Run: guard.Watch},
		lifecycle.Part{Name: "outcomes", Run: outcomes.Follow},
		lifecycle.HTTPServer("console", ln, srv),
	)
}
