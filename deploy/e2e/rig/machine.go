package rig

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Machine is one machine that runs `onebell up`. It can be killed and started again on the same data.
type Machine struct {
	*System
	*Process

	t         testing.TB
	Dir       string // --data
	PagesFile string
	ReadyFile string
	settings  map[string]string
	args      []string
}

// Options of a machine.
type Options struct {
	Graph    *Graph            // nil: none is set, as for a demo
	Pages    []Page            // default: ThePage
	Rules    string            // default: RulesFile
	Settings map[string]string // more environment variables
	Args     []string          // more arguments for `onebell up`
}

// NewMachine prepares a machine with empty data and starts it.
func NewMachine(t testing.TB, o Options) *Machine {
	t.Helper()
	dir := t.TempDir()
	m := &Machine{
		t: t, Dir: filepath.Join(dir, "data"), PagesFile: filepath.Join(dir, "pages.yaml"), ReadyFile: filepath.Join(dir, "ready.json"),
		args: o.Args,
		settings: map[string]string{
			"ONEBELL_NATS_ADDR": "127.0.0.1:0", "ONEBELL_REDIS_ADDR": "127.0.0.1:0",
			"ONEBELL_INGESTOR_ADDR": "127.0.0.1:0", "ONEBELL_TOKEN_ADDR": "127.0.0.1:0", "ONEBELL_ALERT_ADDR": "127.0.0.1:0",
			"ONEBELL_ALERT_HTTP_ADDR": "127.0.0.1:0", "ONEBELL_CONSOLE_ADDR": "127.0.0.1:0", "ONEBELL_SIMULATOR_ADDR": "127.0.0.1:0",
			"ONEBELL_ADMIN_ADDR": "127.0.0.1:0", "ONEBELL_SEAL_KEY": SealKey, "ONEBELL_LOG_LEVEL": "debug",
		},
	}
	if o.Graph != nil {
		if o.Pages == nil {
			o.Pages = []Page{ThePage}
		}
		if o.Rules == "" {
			o.Rules = RulesFile
		}
		rules := filepath.Join(dir, "rules.yaml")
		write(t, rules, o.Rules)
		m.SetPages(o.Pages...)
		m.settings["ONEBELL_GRAPH_URL"] = o.Graph.URL()
		m.settings["ONEBELL_PAGES_FILE"] = m.PagesFile
		m.settings["ONEBELL_RULES_FILE"] = rules
	}
	maps.Copy(m.settings, o.Settings)
	m.Up()
	return m
}

// SetPages writes the pages file: all of it or nothing, as an editor or a config map does.
func (m *Machine) SetPages(pages ...Page) { write(m.t, m.PagesFile, PagesFile(pages...)) }

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// Up starts the machine and waits until it is ready.
func (m *Machine) Up() {
	m.t.Helper()
	m.Start()
	var addr Addresses
	Eventually(m.t, "onebell up is ready", func() bool {
		if m.Ended() {
			m.t.Fatalf("onebell up ended before it was ready, status %d", m.cmd.ProcessState.ExitCode())
		}
		text, err := os.ReadFile(m.ReadyFile)
		if errors.Is(err, fs.ErrNotExist) {
			return false
		}
		// The file appears whole, so what cannot be read is a mistake.
		if err != nil {
			m.t.Fatal(err)
		}
		if err := json.Unmarshal(text, &addr); err != nil {
			m.t.Fatalf("ready file: %v: %s", err, text)
		}
		// The one of a process that was killed stays until the next one removes it.
		return addr.PID == m.PID()
	})
	m.System = connect(m.t, addr)
}

// Start starts the machine without waiting.
func (m *Machine) Start() {
	m.t.Helper()
	args := append([]string{"up", "--data", m.Dir, "--ready-file", m.ReadyFile}, m.args...)
	m.Process = start(m.t, "onebell", args, m.settings)
}

// Command runs a subcommand of onebell against this machine, found by the ready file.
func (m *Machine) Command(args ...string) Result {
	m.t.Helper()
	return Run(m.t, "onebell", map[string]string{"ONEBELL_READY_FILE": m.ReadyFile}, args...)
}

// Second runs another `onebell up` on the same data directory, to its end.
func (m *Machine) Second() Result {
	m.t.Helper()
	return Run(m.t, "onebell", m.settings, "up", "--data", m.Dir)
}

// settle is how long a stop is expected to take at most when nothing is under way.
const settle = 10 * time.Second

// StopQuickly stops the machine in order while nothing is under way.
func (m *Machine) StopQuickly() {
	m.t.Helper()
	began := time.Now()
	m.Stop()
	if took := time.Since(began); took > settle {
		m.t.Errorf("the stop took %s although nothing was under way, expected at most %s", took, settle)
	}
}
