// Package up runs all services in one process, with a NATS server inside it and a Redis of its own. It holds no business:
// it finds addresses, starts in order, and stops in reverse.
package up

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/services/onebell/internal/exit"
	"github.com/onebell/onebell/services/onebell/internal/ready"
)

// Options of a start: the environment with the command's flags laid over it.
type Options struct {
	Environ map[string]string
	Demo    bool
	Out     io.Writer // told the addresses when everything is ready
}

// Run runs everything until ctx ends.
func Run(ctx context.Context, o Options) error {
	p, err := prepare(o)
	if err != nil {
		return err
	}
	defer p.release()
	admin, err := listen(ctx, "ONEBELL_ADMIN_ADDR", p.AdminAddr)
	if err != nil {
		return exit.Failed(err)
	}
	all, err := bindAll(ctx, p.services)
	if err != nil {
		return exit.Failed(errors.Join(err, admin.Close()))
	}
	defer all.close()
	return lifecycle.Host(ctx, "onebell", p.HostSettings, admin, func(ctx context.Context, process *lifecycle.Process) error {
		process.Ready.Check("services", all.started)
		return p.serve(ctx, process, all, admin.Addr(), o)
	})
}

// stopLimit bounds the stop of one part: the sender needs the most (see its README).
const stopLimit = 25 * time.Second

// serve starts NATS and Redis, then everything that needs them.
func (p *plan) serve(ctx context.Context, process *lifecycle.Process, all listeners, admin net.Addr, o Options) error {
	nats, natsPart, err := p.startNATS(ctx, process.Log)
	if err != nil {
		return err
	}
	redis, redisPart, err := p.startRedis(ctx, process.Log)
	if err != nil {
		return errors.Join(err, stopAtOnce(ctx, natsPart))
	}
	b := bound{
		ingestor: all.addr("ONEBELL_INGESTOR_ADDR"), token: all.addr("ONEBELL_TOKEN_ADDR"),
		alert: all.addr("ONEBELL_ALERT_ADDR"), alertHTTP: all.addr("ONEBELL_ALERT_HTTP_ADDR"),
		console: all.addr("ONEBELL_CONSOLE_ADDR"), simulator: all.addr("ONEBELL_SIMULATOR_ADDR"),
		nats: nats, redis: redis,
	}
	connected, err := load(connect(p.environ, b))
	if err != nil {
		return errors.Join(err, stopAtOnce(ctx, redisPart), stopAtOnce(ctx, natsPart))
	}
	parts := []lifecycle.Part{natsPart, redisPart}
	for _, s := range connected {
		for _, d := range s.doors {
			*d.listener = all[d.variable]
		}
		parts = append(parts, lifecycle.Part{Name: s.name, Run: func(ctx context.Context) error { return s.run(ctx, process) }})
	}
	a := announcer{path: p.ReadyFile, content: b.file(dialable(admin)), out: o.Out, demo: o.Demo}
	parts = append(parts, lifecycle.Part{Name: "ready file", Run: func(ctx context.Context) error { return a.run(ctx, process) }})
	return lifecycle.Run(ctx, stopLimit, parts...)
}

// stopAtOnce stops a server of a start that goes no further.
func stopAtOnce(ctx context.Context, part lifecycle.Part) error {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	return part.Run(ended)
}

// file is what the ready file says.
func (b bound) file(admin string) ready.File {
	return ready.File{
		Webhook: "http://" + b.ingestor + "/webhook", DataDeletion: "http://" + b.ingestor + "/data-deletion",
		TokenGRPC: b.token, AlertGRPC: b.alert, AlertHTTP: "http://" + b.alertHTTP,
		Console: "http://" + b.console, Simulator: "http://" + b.simulator, Admin: "http://" + admin,
		NATS: b.nats, Redis: b.redis, PID: os.Getpid(),
	}
}

// clearReady removes a ready file that an earlier run left, and gives its absolute path. That it can be written is not
// found out only when everything runs.
func clearReady(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", ready.Variable, err)
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return "", fmt.Errorf("%s=%q: the directory is not there: %w", ready.Variable, path, err)
	}
	return path, ready.Remove(path)
}

// announcer says that everything accepts traffic: in the ready file and to the user.
type announcer struct {
	path    string // of the ready file; empty: none is wanted
	content ready.File
	out     io.Writer
	demo    bool
}

func (a announcer) run(ctx context.Context, process *lifecycle.Process) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for {
		if ok, _ := process.Ready.Report(ctx); ok {
			break
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
	if a.path != "" {
		if err := ready.Write(a.path, a.content); err != nil {
			return err
		}
	}
	process.Log.Info("ready", "took", time.Since(began).String(), "webhook", a.content.Webhook, "console", a.content.Console)
	a.greet()
	<-ctx.Done()
	if a.path != "" {
		return ready.Remove(a.path)
	}
	return nil
}

func (a announcer) greet() {
	fmt.Fprintf(a.out, "\nOnebell is ready.\n\n  simulator (with the phone)  %s\n  console                     %s\n  admin                       %s/readyz\n  webhook                     %s\n  inventory events            %s/v1/events\n\n",
		a.content.Simulator, a.content.Console, a.content.Admin, a.content.Webhook, a.content.AlertHTTP)
	if a.demo {
		fmt.Fprintf(a.out, "Open %s, tap Notify me on a product that is sold out, then press Restock:\nthe message arrives in the phone, once. Ctrl-C stops everything; nothing is lost.\n\n", a.content.Simulator)
	}
}
