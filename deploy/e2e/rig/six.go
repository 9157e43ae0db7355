package rig

import (
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"testing"

	"github.com/onebell/onebell/pkg/embed"
)

// Six is a system of six programs with a NATS server and a Redis outside of them.
type Six struct {
	*System

	t         testing.TB
	processes map[string]*Process
	settings  map[string]map[string]string
}

// NewSix starts the six programs, all at once, and waits until each is ready.
func NewSix(t testing.TB, graph *Graph, pages ...Page) *Six {
	t.Helper()
	nats, redis := NATS(t, "127.0.0.1:0"), Redis(t, "127.0.0.1:0")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "pages.yaml"), PagesFile(pages...))
	write(t, filepath.Join(dir, "rules.yaml"), RulesFile)
	// A service's own address is where the others dial it, so the ports must be known beforehand.
	common := map[string]string{
		"ONEBELL_NATS_URL": nats.URL(), "ONEBELL_REDIS_URL": redis.URL(), "ONEBELL_GRAPH_URL": graph.URL(),
		"ONEBELL_PAGES_FILE": filepath.Join(dir, "pages.yaml"), "ONEBELL_RULES_FILE": filepath.Join(dir, "rules.yaml"),
		"ONEBELL_SEAL_KEY": SealKey, "ONEBELL_LOG_LEVEL": "debug",
		"ONEBELL_INGESTOR_ADDR": FreeAddr(t), "ONEBELL_TOKEN_ADDR": FreeAddr(t), "ONEBELL_ALERT_ADDR": FreeAddr(t),
		"ONEBELL_ALERT_HTTP_ADDR": FreeAddr(t), "ONEBELL_CONSOLE_ADDR": FreeAddr(t), "ONEBELL_SIMULATOR_ADDR": FreeAddr(t),
	}
	s := &Six{t: t, processes: map[string]*Process{}, settings: map[string]map[string]string{}}
	for _, name := range Services {
		own := maps.Clone(common)
		own["ONEBELL_ADMIN_ADDR"] = FreeAddr(t)
		own["ONEBELL_DATA_DIR"] = filepath.Join(dir, name)
		s.settings[name] = own
		s.Start(name)
	}
	for _, name := range Services {
		s.AwaitReady(name)
	}
	s.System = connect(t, Addresses{
		Webhook:   "http://" + common["ONEBELL_INGESTOR_ADDR"] + "/webhook",
		TokenGRPC: common["ONEBELL_TOKEN_ADDR"], AlertGRPC: common["ONEBELL_ALERT_ADDR"],
		AlertHTTP: "http://" + common["ONEBELL_ALERT_HTTP_ADDR"], Console: "http://" + common["ONEBELL_CONSOLE_ADDR"],
		Simulator: "http://" + common["ONEBELL_SIMULATOR_ADDR"], NATS: nats.URL(), Redis: redis.URL(),
	})
	return s
}

// Start starts one of the programs.
func (s *Six) Start(name string) {
	s.t.Helper()
	s.processes[name] = start(s.t, name, nil, s.settings[name])
}

// Program is one of the programs.
func (s *Six) Program(name string) *Process { return s.processes[name] }

// AwaitReady waits until a program is ready.
func (s *Six) AwaitReady(name string) {
	s.t.Helper()
	Eventually(s.t, name+" is ready", func() bool {
		if s.processes[name].Ended() {
			s.t.Fatalf("%s ended before it was ready", name)
		}
		return Ready(s.t, "http://"+s.settings[name]["ONEBELL_ADMIN_ADDR"])
	})
}

// NATS starts a server outside of the programs under test. Stored in a directory of the test.
func NATS(t testing.TB, addr string) *embed.NATS {
	t.Helper()
	return NATSIn(t, addr, t.TempDir())
}

// NATSIn is NATS with its directory.
func NATSIn(t testing.TB, addr, dir string) *embed.NATS {
	t.Helper()
	server, err := embed.StartNATS(embed.NATSOptions{Addr: addr, Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}

// Redis starts a redis-server outside of the programs under test that keeps nothing.
func Redis(t testing.TB, addr string) *embed.Redis {
	t.Helper()
	server, err := embed.StartRedis(t.Context(), embed.RedisOptions{Addr: addr, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}

// FreeAddr is an address with a port that is free now. It is not on 127.0.0.1, where outgoing connections take theirs, so it
// stays free.
func FreeAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.3:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().String()
}
