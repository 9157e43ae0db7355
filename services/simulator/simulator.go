// Package simulator is a stand-in for the Messenger platform, to develop and test against: the Graph API that Onebell's
// sender calls, signed webhooks to its ingestor, a JSON API to steer it, and a page with a phone.
package simulator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"github.com/onebell/onebell/pkg/config"
	"github.com/onebell/onebell/pkg/door"
	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/pkg/reload"
	"github.com/onebell/onebell/pkg/rpc"
	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/services/simulator/internal/graph"
	"github.com/onebell/onebell/services/simulator/internal/memory"
	"github.com/onebell/onebell/services/simulator/internal/messenger"
	"github.com/onebell/onebell/services/simulator/internal/phone"
	"github.com/onebell/onebell/services/simulator/internal/platform"
	"github.com/onebell/onebell/services/simulator/internal/shop"
	"github.com/onebell/onebell/services/simulator/internal/steer"
)

// Config of the simulator.
type Config struct {
	Addr       config.Addr    `env:"ONEBELL_SIMULATOR_ADDR" envDefault:"127.0.0.1:8089" help:"listen address: Graph API, /sim/v1 and the phone"`
	PagesFile  string         `env:"ONEBELL_PAGES_FILE" envDefault:"pages.yaml" help:"file of the pages; the first is the demo shop's"`
	WebhookURL config.HTTPURL `env:"ONEBELL_WEBHOOK_URL" envDefault:"http://127.0.0.1:8080/webhook" help:"where signed webhooks go"`
	EventsURL  config.HTTPURL `env:"ONEBELL_EVENTS_URL" envDefault:"http://127.0.0.1:8082" help:"the alert service's HTTP, for the shop's stock buttons"`
	StateFile  string         `env:"ONEBELL_SIMULATOR_STATE" help:"file that keeps tokens and people over restarts; without it a restart forgets them"`
	Switches   platform.Switches
	Limits     platform.Limits
	Door       door.Settings
	Client     rpc.ClientSettings

	Listener net.Listener `env:"-"` // already bound; nil: listens on Addr
}

// Validate names what the fields' types cannot.
func (c *Config) Validate() []error {
	var problems []error
	if err := c.Switches.Check(); err != nil {
		problems = append(problems, config.Problem("ONEBELL_SIMULATOR_TITLE_UNIT", c.Switches.TitleUnit, "runes, utf16 or bytes"))
	}
	if c.Limits.TextPerSecond < 1 || c.Limits.MediaPerSecond < 1 || c.Limits.RegainMinutes < 0 {
		problems = append(problems, errors.New("ONEBELL_SIMULATOR_TEXT_PER_SECOND, ONEBELL_SIMULATOR_MEDIA_PER_SECOND: expected at least 1; ONEBELL_SIMULATOR_REGAIN_MINUTES: expected 0 or more"))
	}
	return problems
}

// stopLimit: open calls get 10 s (lifecycle.HTTPServer), one webhook under way its 5 s.
const stopLimit = 15 * time.Second

// Run runs the simulator until ctx ends.
func Run(ctx context.Context, cfg Config, p *lifecycle.Process) error {
	cfg.fill()
	ln := cfg.Listener
	if ln == nil {
		var err error
		if ln, err = net.Listen("tcp", string(cfg.Addr)); err != nil {
			return fmt.Errorf("ONEBELL_SIMULATOR_ADDR: %w", err)
		}
	}
	defer func() { _ = ln.Close() }() // the server has closed it, if it came that far
	guard, err := door.Open(ln.Addr(), cfg.Door, p.Log, p.Ready)
	if err != nil {
		return err
	}
	file, err := reload.Open(cfg.PagesFile, func(b []byte) (pages.File, error) { return pages.Parse(b, os.LookupEnv) }, p.Log, p.Ready, reload.NamesFiles())
	if err != nil {
		return fmt.Errorf("ONEBELL_PAGES_FILE: %w", err)
	}
	token, err := cfg.Client.Token()
	if err != nil {
		return err
	}
	kept, records, err := memory.Open(cfg.StateFile)
	if err != nil {
		return fmt.Errorf("ONEBELL_SIMULATOR_STATE: %w", err)
	}
	defer func() { _ = kept.Close() }() // each line was written when it was said

	m := messenger.New(messenger.Options{
		Pages: file.Get, WebhookURL: string(cfg.WebhookURL), Switches: cfg.Switches, Limits: cfg.Limits, Memory: kept, Log: p.Log,
	}, records)
	desk := shop.NewDesk(string(cfg.EventsURL), token, deskStates(records), time.Now(), func(s shop.State) error { return keep(m, s) })
	m.OnAct(shop.Bot{Messenger: m, Desk: desk, Log: p.Log}.Answer)
	page := phone.New(m, desk, p.Log)
	watchQueue(m)
	p.Ready.Check("simulator: pages", func(context.Context) error {
		if len(file.Get().Pages) == 0 {
			return errors.New("the file names no page")
		}
		return nil
	})

	srv := &http.Server{Handler: handler(m, desk, page, guard), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute}
	srv.RegisterOnShutdown(page.Close)
	p.Log.Info("simulator is listening", "addr", ln.Addr().String(), "webhooks", string(cfg.WebhookURL))
	return lifecycle.Run(ctx, stopLimit,
		lifecycle.Part{Name: "pages file", Run: file.Watch},
		lifecycle.Part{Name: "tokens file", Run: guard.Watch},
		lifecycle.Part{Name: "webhooks", Run: m.Run},
		lifecycle.HTTPServer("simulator", ln, srv),
	)
}

// fill gives a Config that was made in code, not from the environment, the defaults of what it left out.
func (c *Config) fill() {
	if c.Switches == (platform.Switches{}) {
		c.Switches = platform.DefaultSwitches()
	}
	d := platform.DefaultLimits()
	c.Limits.TextPerSecond = cmp.Or(c.Limits.TextPerSecond, d.TextPerSecond)
	c.Limits.MediaPerSecond = cmp.Or(c.Limits.MediaPerSecond, d.MediaPerSecond)
	c.Limits.ThrottleError = cmp.Or(c.Limits.ThrottleError, d.ThrottleError)
}

// handler puts the three doors together. The Graph API asks for a page's access token, as the platform does; the others
// for an operator where the listener is beyond loopback. No other site's page may make a browser change anything here.
func handler(m *messenger.Messenger, desk *shop.Desk, page *phone.Page, guard *door.Door) http.Handler {
	operators := func(h http.Handler) http.Handler { return guard.HTTP(h, door.Operator) }
	mux := http.NewServeMux()
	mux.Handle("/sim/", operators((&steer.API{Messenger: m, Desk: desk}).Handler()))
	mux.Handle("/", operators(page.Handler()))
	graphAPI := graph.Handler(m)
	return http.NewCrossOriginProtection().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if graph.Owns(r.URL.Path) { // not a pattern: "any version, any page" would collide with the fixed addresses
			graphAPI.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}))
}

func keep(m *messenger.Messenger, s shop.State) error {
	body, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return m.Remember(memory.Record{What: memory.Stock, SKU: s.SKU, Body: body})
}

func deskStates(records []memory.Record) []shop.State {
	var states []shop.State
	for _, r := range records {
		var s shop.State
		if r.What == memory.Stock && json.Unmarshal(r.Body, &s) == nil {
			states = append(states, s)
		}
	}
	return states
}

func watchQueue(m *messenger.Messenger) {
	// A gauge that cannot be made is a no-op of the API; the name is a constant that a test has seen.
	_, _ = otel.Meter("onebell/simulator").Int64ObservableGauge("onebell_simulator_webhooks_waiting",
		metric.WithDescription("webhooks that the app has not yet answered with 200"),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(int64(m.WaitingWebhooks()))
			return nil
		}))
}
