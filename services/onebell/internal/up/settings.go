package up

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/onebell/onebell/pkg/config"
	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/proto/rules"
	"github.com/onebell/onebell/services/onebell/internal/exit"
)

// Settings are those of `onebell up` itself; each service has its own beside them.
type Settings struct {
	lifecycle.HostSettings
	DataDir   string      `env:"ONEBELL_DATA_DIR" envDefault:"onebell-data" help:"directory for everything that onebell up keeps"`
	ReadyFile string      `env:"ONEBELL_READY_FILE" help:"file with all addresses: written by onebell up once everything accepts traffic, read by the client commands"`
	NATSAddr  config.Addr `env:"ONEBELL_NATS_ADDR" envDefault:"127.0.0.1:4222" help:"listen address of the embedded NATS server; none is started when ONEBELL_NATS_URL is set"`
	NATSSync  syncMode    `env:"ONEBELL_NATS_SYNC" envDefault:"always" help:"always: the embedded NATS acknowledges after an fsync; interval: a power cut may lose the last two minutes"`
	RedisAddr config.Addr `env:"ONEBELL_REDIS_ADDR" envDefault:"127.0.0.1:6379" help:"listen address of the private Redis; none is started when ONEBELL_REDIS_URL is set"`
}

// syncMode is how the embedded NATS server writes.
type syncMode string

// UnmarshalText reads always or interval.
func (m *syncMode) UnmarshalText(text []byte) error {
	if *m = syncMode(text); *m != "always" && *m != "interval" {
		return &config.Expected{What: "always or interval"}
	}
	return nil
}

// defaultAdmin is where the one admin listener of `onebell up` is.
const defaultAdmin config.Addr = "127.0.0.1:9080"

// plan is a start whose settings are known to be good.
type plan struct {
	Settings
	environ  map[string]string
	services []prepared
	release  func() // lets go of the data directory
}

// prepare takes the data directory, removes a ready file of an earlier run, and checks the settings of everything.
func prepare(o Options) (p *plan, err error) {
	environ := maps.Clone(o.Environ)
	own, ownErr := config.Load[Settings](environ)
	if own.AdminAddr == "" {
		own.AdminAddr = defaultAdmin
	}
	if own.DataDir, err = filepath.Abs(own.DataDir); err != nil {
		return nil, exit.BadUsage(fmt.Errorf("ONEBELL_DATA_DIR: %w", err))
	}
	release, err := lockDir(own.DataDir)
	if err != nil {
		return nil, exit.Failed(err)
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	if own.ReadyFile != "" {
		if own.ReadyFile, err = clearReady(own.ReadyFile); err != nil {
			return nil, exit.BadUsage(err)
		}
	}
	if err := fill(environ, own.DataDir, o.Demo); err != nil {
		return nil, exit.Failed(err)
	}
	services, servicesErr := load(environ)
	if err := joinLines("bad settings:", ownErr, checkFiles(environ), servicesErr); err != nil {
		return nil, exit.BadUsage(err)
	}
	return &plan{own, environ, services, release}, nil
}

// fill sets what `onebell up` knows by itself and the user did not say. It never reaches the environment of the process.
func fill(environ map[string]string, dataDir string, demo bool) error {
	if environ["ONEBELL_SEAL_KEY"] == "" {
		key, err := sealKey(dataDir)
		if err != nil {
			return err
		}
		environ["ONEBELL_SEAL_KEY"] = key
	}
	setDefault(environ, "ONEBELL_SIMULATOR_STATE", filepath.Join(dataDir, "simulator.jsonl"))
	if !demo {
		return nil
	}
	// The demo shop's secrets are known to everybody, so the ingestor's signature keeps nobody out.
	setDefault(environ, "ONEBELL_INGESTOR_ADDR", "127.0.0.1:8080")
	for variable, name := range map[string]string{"ONEBELL_PAGES_FILE": "pages.yaml", "ONEBELL_RULES_FILE": "rules.yaml"} {
		if environ[variable] == "" {
			path, err := demoFile(dataDir, name)
			if err != nil {
				return err
			}
			environ[variable] = path
		}
	}
	return nil
}

func setDefault(environ map[string]string, name, value string) {
	if environ[name] == "" {
		environ[name] = value
	}
}

// checkFiles reads pages.yaml and rules.yaml once, so that their mistakes are told with those of the settings.
func checkFiles(environ map[string]string) error {
	lookup := func(name string) (string, bool) { v, ok := environ[name]; return v, ok }
	return errors.Join(
		checkFile(environ, "ONEBELL_PAGES_FILE", "--pages", func(b []byte) error { _, err := pages.Parse(b, lookup); return err }),
		checkFile(environ, "ONEBELL_RULES_FILE", "--rules", func(b []byte) error { _, err := rules.Parse(b); return err }),
	)
}

func checkFile(environ map[string]string, variable, flag string, parse func([]byte) error) error {
	path := environ[variable]
	if path == "" {
		return fmt.Errorf("%s: not set, expected a file (or %s FILE, or --demo to begin with a demo shop)", variable, flag)
	}
	content, err := os.ReadFile(path) //nolint:gosec // named by the operator
	if err != nil {
		return fmt.Errorf("%s: %w", variable, err)
	}
	if err := parse(content); err != nil {
		return fmt.Errorf("%s=%q: %w", variable, path, err)
	}
	return nil
}

// joinLines is one error with a line for each problem, each said once: several services read the same variable.
func joinLines(title string, errs ...error) error {
	var lines []string
	for _, err := range errs {
		if err == nil {
			continue
		}
		for line := range strings.Lines(err.Error()) {
			line = "  " + strings.TrimRight(line, "\n")
			if !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return errors.New(title + "\n" + strings.Join(lines, "\n"))
}

// bound are the addresses that were bound, as clients on this machine dial them.
type bound struct {
	ingestor, token, alert, alertHTTP, console, simulator, nats, redis string
}

// connect tells the services where everything else is.
func connect(environ map[string]string, b bound) map[string]string {
	out := maps.Clone(environ)
	out["ONEBELL_NATS_URL"], out["ONEBELL_REDIS_URL"] = b.nats, b.redis
	out["ONEBELL_TOKEN_ADDR"], out["ONEBELL_ALERT_ADDR"], out["ONEBELL_ALERT_HTTP_ADDR"] = b.token, b.alert, b.alertHTTP
	out["ONEBELL_INGESTOR_ADDR"], out["ONEBELL_CONSOLE_ADDR"], out["ONEBELL_SIMULATOR_ADDR"] = b.ingestor, b.console, b.simulator
	setDefault(out, "ONEBELL_GRAPH_URL", "http://"+b.simulator)
	setDefault(out, "ONEBELL_WEBHOOK_URL", "http://"+b.ingestor+"/webhook")
	setDefault(out, "ONEBELL_EVENTS_URL", "http://"+b.alertHTTP)
	return out
}

// dialable is a bound address as this machine reaches it: the wildcard is reached through loopback.
func dialable(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return addr.String()
	}
	return (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: tcp.Port}).String()
}
