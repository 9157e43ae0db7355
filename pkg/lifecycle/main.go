package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/onebell/onebell/pkg/admin"
	"github.com/onebell/onebell/pkg/config"
	"github.com/onebell/onebell/pkg/fault"
	"github.com/onebell/onebell/pkg/telemetry"
)

// Exit statuses of every program.
const (
	ExitDone      = 0
	ExitFailed    = 1
	ExitBadUsage  = 2
	ExitUnreached = 3
)

// Version is stamped in by the linker: -X github.com/onebell/onebell/pkg/lifecycle.Version=v1.2.3.
var Version = ""

// BuildVersion is the stamped version, else what the Go tool knows of the build.
func BuildVersion() string {
	if Version != "" {
		return Version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}

// stopLimit bounds the stop of a program's body: the sender's 25 s (see its README) and a few for what stops after it. An
// orchestrator's grace is 30 s.
const stopLimit = 29 * time.Second

// Main runs one service as a program: settings, telemetry, admin listener, then the service, until SIGTERM or SIGINT; a
// second signal ends at once. C is the service's settings. It does not return.
func Main[C any](name, about string, adminAddr config.Addr, run func(context.Context, C, *Process) error) {
	if len(os.Args) > 1 {
		switch {
		case slices.Contains([]string{"--version", "-version"}, os.Args[1]):
			fmt.Println(name, BuildVersion())
			os.Exit(ExitDone)
		case slices.Contains([]string{"--help", "-h", "-help", "help"}, os.Args[1]):
			usage[C](name, about, adminAddr)
			os.Exit(ExitDone)
		case os.Args[1] == "--health":
			os.Exit(health(name, adminAddr))
		default:
			fmt.Fprintf(os.Stderr, "%s: unexpected argument %q: settings come from environment variables, see %s --help\n", name, os.Args[1], name)
			os.Exit(ExitBadUsage)
		}
	}
	environ := config.Environ(os.Environ())
	own, err1 := config.Load[C](environ)
	host, err2 := config.Load[HostSettings](environ)
	if err := errors.Join(err1, err2); err != nil {
		fmt.Fprintf(os.Stderr, "%s: bad settings:\n%v\n", name, err)
		os.Exit(ExitBadUsage)
	}
	if host.AdminAddr == "" {
		host.AdminAddr = adminAddr
	}
	ctx, stop := Signals(context.Background())
	defer stop()
	err := Host(ctx, name, host, nil, func(ctx context.Context, p *Process) error {
		return run(ctx, own, p.For(name))
	})
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	}
	os.Exit(Status(err))
}

// Status is the exit status for the error of a program: a fault of kind Invalid comes from a setting, or a file that one names,
// that cannot be used.
func Status(err error) int {
	switch {
	case err == nil:
		return ExitDone
	case fault.Of(err).Kind == fault.Invalid:
		return ExitBadUsage
	}
	return ExitFailed
}

// Signals is a context that ends at the first SIGTERM or SIGINT; the second then has its usual effect.
func Signals(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(parent, syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// HostSettings are the settings of a program, whatever it runs.
type HostSettings struct {
	telemetry.Settings
	AdminAddr config.Addr `env:"ONEBELL_ADMIN_ADDR" help:"admin listener: /livez /readyz /metrics /debug/pprof/ (default by program)"`
}

// Host runs a body with telemetry and an admin listener around it. ln may be nil: then it listens on the settings' address.
func Host(ctx context.Context, name string, s HostSettings, ln net.Listener, body func(context.Context, *Process) error) (err error) {
	p := &Process{Log: telemetry.Logger(s.Settings, os.Stderr), Ready: &admin.Readiness{}, Version: BuildVersion()}
	flush, err := telemetry.Start(ctx, name, p.Version)
	if err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		if ferr := flush(end); ferr != nil {
			p.Log.Warn("telemetry was not flushed", "err", ferr)
		}
	}()
	if ln == nil {
		if ln, err = net.Listen("tcp", string(s.AdminAddr)); err != nil {
			return fmt.Errorf("admin listener: %w", err)
		}
	}
	p.Log.Info("starting", "program", name, "version", p.Version, "admin", ln.Addr().String())
	err = Run(ctx, stopLimit,
		HTTP("admin", ln, admin.Handler(p.Ready)),
		Part{Name: name, Run: func(ctx context.Context) error { return body(ctx, p) }},
	)
	p.Log.Info("stopped", "program", name, "err", err)
	return err
}

// HTTP is a part that serves plain HTTP on a listener and finishes open requests when it stops.
func HTTP(name string, ln net.Listener, h http.Handler) Part {
	return HTTPServer(name, ln, &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute})
}

// HTTPServer is HTTP with the server's own limits.
func HTTPServer(name string, ln net.Listener, srv *http.Server) Part {
	return Part{Name: name, Run: func(ctx context.Context) error {
		failed := make(chan error, 1)
		go func() { failed <- srv.Serve(ln) }()
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
		}
		// Open requests get 10 s; streams that never end (live pages) are cut then.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := srv.Shutdown(end); err != nil {
			return srv.Close()
		}
		return nil
	}}
}

func usage[C any](name, about string, adminAddr config.Addr) {
	fmt.Printf("%s: %s\n\nSettings are environment variables:\n\n", name, about)
	for _, s := range slices.Concat(config.Table[C](), config.Table[HostSettings]()) {
		if s.Name == "ONEBELL_ADMIN_ADDR" {
			s.Default = string(adminAddr)
		}
		fmt.Printf("  %-32s %s", s.Name, s.Help)
		if s.Default != "" {
			fmt.Printf(" (default %s)", s.Default)
		}
		fmt.Println()
	}
	fmt.Printf("\n  --version  print the version\n  --health   ask the one that runs here whether it is ready: exit status 0 or 1\n  --help     print this\n")
}
