package up

import (
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/services/onebell/internal/exit"
)

func start(t *testing.T, demo bool, environ map[string]string) (*plan, error) {
	t.Helper()
	all := map[string]string{"ONEBELL_DATA_DIR": t.TempDir()}
	maps.Copy(all, environ)
	p, err := prepare(Options{Environ: all, Demo: demo, Out: io.Discard})
	if err == nil {
		t.Cleanup(p.release)
	}
	return p, err
}

func TestEveryProblemIsTold(t *testing.T) {
	t.Parallel()
	_, err := start(t, false, map[string]string{
		"ONEBELL_NATS_ADDR": "nowhere", "ONEBELL_TOKEN_ADDR": "no port", "ONEBELL_NATS_SYNC": "sometimes",
	})
	if exit.Status(err) != lifecycle.ExitBadUsage {
		t.Fatalf("status %d: %v", exit.Status(err), err)
	}
	for _, want := range []string{
		`ONEBELL_NATS_ADDR="nowhere"`, `ONEBELL_TOKEN_ADDR="no port"`, `ONEBELL_NATS_SYNC="sometimes"`,
		"ONEBELL_PAGES_FILE: not set", "ONEBELL_RULES_FILE: not set",
	} {
		if strings.Count(err.Error(), want) != 1 {
			t.Errorf("%s is said %d times, want once, in:\n%v", want, strings.Count(err.Error(), want), err)
		}
	}
}

func TestBadFilesAreBadSettings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	_, err := start(t, false, map[string]string{
		"ONEBELL_PAGES_FILE": write("pages.yaml", "pages: [{id: '1', access_token: '${NOT_SET}', app_secrets: [s]}]"),
		"ONEBELL_RULES_FILE": write("rules.yaml", "segments: {a: 'person.nothing'}"),
	})
	if exit.Status(err) != lifecycle.ExitBadUsage || !strings.Contains(err.Error(), "NOT_SET") || !strings.Contains(err.Error(), "segments.a") {
		t.Errorf("status %d: %v", exit.Status(err), err)
	}
}

func TestDemoShop(t *testing.T) {
	t.Parallel()
	p, err := start(t, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	rules := filepath.Join(p.DataDir, "demo", "rules.yaml")
	if p.environ["ONEBELL_RULES_FILE"] != rules {
		t.Errorf("rules are %s", p.environ["ONEBELL_RULES_FILE"])
	}
	if got := p.environ["ONEBELL_INGESTOR_ADDR"]; got != "127.0.0.1:8080" {
		t.Errorf("with secrets that everybody knows the ingestor listens on %q", got)
	}
	edited := []byte("alerts: []\n")
	if err := os.WriteFile(rules, edited, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := demoFile(p.DataDir, "rules.yaml"); err != nil {
		t.Fatal(err)
	}
	if content, _ := os.ReadFile(rules); string(content) != string(edited) {
		t.Error("an edited file was written over")
	}
}

func TestAStaleReadyFileGoesFirst(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ready.json")
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := start(t, false, map[string]string{"ONEBELL_READY_FILE": path}); err == nil {
		t.Fatal("started without pages")
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("the ready file of an earlier run is still there")
	}
}

func TestAReadyFileThatCannotBeWrittenIsABadSetting(t *testing.T) {
	t.Parallel()
	_, err := start(t, true, map[string]string{"ONEBELL_READY_FILE": filepath.Join(t.TempDir(), "missing", "ready.json")})
	if exit.Status(err) != lifecycle.ExitBadUsage || !strings.Contains(err.Error(), "ONEBELL_READY_FILE") {
		t.Errorf("status %d: %v", exit.Status(err), err)
	}
}

func TestSealKeyIsMadeOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := sealKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := base64.StdEncoding.DecodeString(first); err != nil || len(raw) != 32 {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
	if again, err := sealKey(dir); err != nil || again != first {
		t.Errorf("another key the second time (%v)", err)
	}
	info, err := os.Stat(filepath.Join(dir, sealKeyName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestServicesAreToldWhatWasBound(t *testing.T) {
	t.Parallel()
	b := bound{token: "127.0.0.1:1", alert: "127.0.0.1:2", simulator: "127.0.0.1:3", nats: "nats://x", redis: "redis://y"}
	out := connect(map[string]string{"ONEBELL_TOKEN_ADDR": "127.0.0.1:0", "KEPT": "yes"}, b)
	for name, want := range map[string]string{
		"ONEBELL_TOKEN_ADDR": "127.0.0.1:1", "ONEBELL_NATS_URL": "nats://x", "ONEBELL_REDIS_URL": "redis://y",
		"ONEBELL_GRAPH_URL": "http://127.0.0.1:3", "KEPT": "yes",
	} {
		if out[name] != want {
			t.Errorf("%s=%q, want %q", name, out[name], want)
		}
	}
	out = connect(map[string]string{"ONEBELL_GRAPH_URL": "https://graph.facebook.com"}, b)
	if out["ONEBELL_GRAPH_URL"] != "https://graph.facebook.com" {
		t.Error("the user's own platform was replaced")
	}
}

func TestDialable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"127.0.0.1:80": "127.0.0.1:80", "0.0.0.0:80": "127.0.0.1:80", "[::]:80": "127.0.0.1:80", "10.0.0.1:80": "10.0.0.1:80",
	} {
		addr, err := net.ResolveTCPAddr("tcp", in)
		if err != nil {
			t.Fatal(err)
		}
		if got := dialable(addr); got != want {
			t.Errorf("%s is dialled at %s, want %s", in, got, want)
		}
	}
}

func TestATakenPortNamesItsVariable(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	p, err := start(t, true, map[string]string{"ONEBELL_TOKEN_ADDR": ln.Addr().String(), "ONEBELL_INGESTOR_ADDR": "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = bindAll(t.Context(), p.services[:1])
	if err == nil || !strings.Contains(err.Error(), "set ONEBELL_TOKEN_ADDR") {
		t.Errorf("err = %v", err)
	}
}
