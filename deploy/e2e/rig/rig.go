// Package rig drives real Onebell programs from outside, as the platform, an inventory system and an operator do: it
// builds and starts the programs, plays the Send API, signs webhooks, publishes events and looks into the streams.
// It uses the contracts and no code of a service.
package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Services are the programs of a system that does not run in one process.
var Services = []string{"ingestor", "token", "alert", "sender", "console", "simulator"}

// binaries is where the programs of this test run are.
var binaries = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "onebell-e2e-") })

// RemovePrograms deletes what Program built. For TestMain.
func RemovePrograms() {
	if dir, err := binaries(); err == nil {
		_ = os.RemoveAll(dir)
	}
}

var (
	building sync.Mutex
	built    = map[string]string{}
)

// Program is the path of a program of this workspace; it is built at the first call of a test run, static as in the images.
// The six services are built together, which takes less than one after the other.
func Program(name string) (string, error) {
	building.Lock()
	defer building.Unlock()
	if path, ok := built[name]; ok {
		return path, nil
	}
	names := []string{name}
	if slices.Contains(Services, name) {
		names = Services
	}
	dir, err := build(names)
	if err != nil {
		return "", err
	}
	for _, n := range names {
		built[n] = filepath.Join(dir, n)
	}
	return built[name], nil
}

func build(names []string) (dir string, err error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	if dir, err = binaries(); err != nil {
		return "", err
	}
	args := []string{"build", "-ldflags", "-s -w", "-o", dir + "/"}
	for _, name := range names {
		args = append(args, "./services/"+name+"/cmd/"+name)
	}
	cmd := exec.Command("go", args...) //nolint:gosec // names of our own programs
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", strings.Join(names, " "), err, out)
	}
	return dir, nil
}

// Root is the top of the workspace: the folder with go.work.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("no go.work above %s", dir)
		}
		dir = parent
	}
}

// Patience is how long a condition may take where a test does not say otherwise: a retry after an unclear try comes after up
// to 10 s, a killed sender's work within 30 s, and the machine is busy with other tests.
const Patience = 60 * time.Second

// Eventually waits until a condition holds. `what` is said when it does not.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", Patience, what)
		}
		pause(t, 10*time.Millisecond)
	}
}

// Steady watches a number for a while and fails the test when it changes: for what must not happen.
func Steady(t testing.TB, what string, span time.Duration, number func() int) {
	t.Helper()
	first := number()
	for end := time.Now().Add(span); time.Now().Before(end); pause(t, 50*time.Millisecond) {
		if n := number(); n != first {
			t.Fatalf("%s: %d, then %d", what, first, n)
		}
	}
}

func pause(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	case <-time.After(d):
	}
}

// environ is what a program under test gets: nothing of ours but the way to find other programs.
func environ(settings map[string]string) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir()}
	for name, value := range settings {
		env = append(env, name+"="+value)
	}
	return env
}

// tail is the end of a log without its debug lines.
func tail(log string, lines int) string {
	var kept []string
	for line := range strings.Lines(log) {
		if !strings.Contains(line, `"level":"DEBUG"`) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept[max(0, len(kept)-lines):], "")
}
