package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Process is a program under test. It ends with the test, and with the test run on SIGKILL.
type Process struct {
	t     testing.TB
	name  string
	cmd   *exec.Cmd
	log   string // file with all it wrote to stdout and stderr
	ended chan struct{}
}

// start starts a program. What it writes goes to a file beside the test's artifacts; its end is shown when the test fails.
func start(t testing.TB, program string, args []string, settings map[string]string) *Process {
	t.Helper()
	path, err := Program(program)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.CreateTemp(t.ArtifactDir(), program+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...) //nolint:gosec // our own program
	cmd.Env, cmd.Stdout, cmd.Stderr = environ(settings), log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p := &Process{t: t, name: program, cmd: cmd, log: log.Name(), ended: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		defer close(p.ended)
		defer func() { _ = log.Close() }()
		// The parent-death signal comes when the starting thread ends: this one stays until the program has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		p.checkLog()
		if t.Failed() {
			t.Logf("%s (%s) said last:\n%s", program, filepath.Base(p.log), tail(p.Log(), 40))
		}
	})
	return p
}

// checkLog fails the test when a line holds what no log may show.
func (p *Process) checkLog() {
	for line := range strings.Lines(p.Log()) {
		for _, secret := range Secrets() {
			if strings.Contains(line, secret) {
				p.t.Errorf("%s logged %q: %.400s", p.name, secret, line)
				return
			}
		}
	}
}

// Kill ends the program with SIGKILL and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// stopLimit is what an orderly stop may take: 25 s by the design, and some for a busy machine.
const stopLimit = 30 * time.Second

// Stop ends the program with SIGTERM and fails the test when it does not end in time with status 0.
func (p *Process) Stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
	select {
	case <-p.ended:
	case <-time.After(stopLimit):
		p.t.Fatalf("%s has not stopped %s after SIGTERM", p.name, stopLimit)
	}
	if status := p.cmd.ProcessState.ExitCode(); status != 0 {
		p.t.Fatalf("%s ended with status %d after SIGTERM", p.name, status)
	}
}

// Ended says whether the program is gone.
func (p *Process) Ended() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// PID is its process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Log is all it wrote to stdout and stderr so far.
func (p *Process) Log() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return fmt.Sprint(err)
	}
	return string(text)
}

// Result is what a command that ended said.
type Result struct {
	Status         int
	Stdout, Stderr string
}

// Run runs a program to its end, at most half a minute.
func Run(t testing.TB, program string, settings map[string]string, args ...string) Result {
	t.Helper()
	path, err := Program(program)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...) //nolint:gosec // our own program
	cmd.Env = environ(settings)
	var stdout, stderr capture
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, ctx.Err(), stderr)
	}
	if cmd.ProcessState == nil {
		t.Fatalf("%s %v: %v", program, args, err)
	}
	return Result{cmd.ProcessState.ExitCode(), string(stdout), string(stderr)}
}

type capture []byte

func (c *capture) Write(p []byte) (int, error) {
	*c = append(*c, p...)
	return len(p), nil
}
