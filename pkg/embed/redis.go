package embed

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// RedisOptions say how the private Redis runs.
type RedisOptions struct {
	Addr string // host:port to listen on; port 0: any free one
	Dir  string // where the append-only file is kept; empty: nothing is kept
	Log  *slog.Logger
}

// Redis is a private redis-server that dies with this process, or a stand-in inside it.
type Redis struct {
	url  string
	stop func()
	// Gone is closed when the server ended although nobody stopped it. It never closes for the stand-in.
	Gone chan struct{}
}

// URL is where clients connect.
func (r *Redis) URL() string { return r.url }

// Stop ends the server in order: what it holds is on disk. It may be called twice.
func (r *Redis) Stop() { r.stop() }

// ErrNoRedis says that there is no redis-server on PATH.
var ErrNoRedis = errors.New("no redis-server on PATH")

// StartRedis starts the redis-server found on PATH and waits until it answers, or says ErrNoRedis. The append-only file is
// synced once a second: what is lost with a power cut is rebuilt from the streams.
func StartRedis(ctx context.Context, o RedisOptions) (*Redis, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, ErrNoRedis
	}
	// redis-server cannot take port 0 and tell which it got, so a free port is looked for; if somebody else takes it in
	// between, redis-server says so and another is tried.
	var last error
	for range 5 {
		addr, err := freeAddr(o.Addr)
		if err != nil {
			return nil, fmt.Errorf("private Redis: %w", err)
		}
		r, err := startRedis(ctx, path, addr, o)
		if err == nil {
			return r, nil
		}
		last = err
		if _, port, _ := net.SplitHostPort(o.Addr); port != "0" {
			break
		}
	}
	return nil, last
}

func freeAddr(addr string) (string, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return "", err
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().String(), nil
}

func startRedis(ctx context.Context, path, addr string, o RedisOptions) (*Redis, error) {
	host, port, _ := net.SplitHostPort(addr)
	args := []string{
		"--bind", host, "--port", port, "--protected-mode", "yes", "--save", "", "--daemonize", "no", "--logfile", "",
		"--maxmemory-policy", "noeviction", "--appendonly", "no",
	}
	if o.Dir != "" {
		if err := os.MkdirAll(o.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("private Redis: %w", err)
		}
		args = append(args, "--dir", o.Dir, "--appendonly", "yes", "--appendfsync", "everysec")
	}
	cmd := exec.Command(path, args...)
	// Dies with us, also on SIGKILL. A signal typed at the terminal goes to us alone: we stop it in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("private Redis: %w", err)
	}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		// The parent-death signal comes when the starting *thread* ends: this one is kept until the server is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			logLines(out, o.Log.With("service", "redis"))
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("private Redis: %w", err)
	}
	r := &Redis{url: "redis://" + addr, Gone: make(chan struct{})}
	stopping := make(chan struct{})
	go func() {
		<-ended
		select {
		case <-stopping:
		default:
			close(r.Gone)
		}
	}()
	r.stop = sync.OnceFunc(func() {
		close(stopping)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	})
	if err := awaitRedis(ctx, addr, ended); err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}

// awaitRedis waits until the server answers, loading included.
func awaitRedis(ctx context.Context, addr string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	rdb := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
	defer func() { _ = rdb.Close() }()
	for {
		err := rdb.Ping(ctx).Err()
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("private Redis on %s ended at start: see its log lines", addr)
		case <-ctx.Done():
			return fmt.Errorf("private Redis on %s does not answer: %w", addr, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// StartStandIn starts an in-process stand-in for Redis: it keeps nothing and is an order of magnitude slower with scripts.
func StartStandIn(addr string) (*Redis, error) {
	m := miniredis.NewMiniRedis()
	if err := m.StartAddr(addr); err != nil {
		return nil, fmt.Errorf("stand-in for Redis: %w", err)
	}
	return &Redis{url: "redis://" + m.Addr(), stop: m.Close, Gone: make(chan struct{})}, nil
}

// logLines gives redis-server's lines to slog: what tells of a failure as a warning, the rest at debug. (Its own mark for
// warnings, #, stands before every greeting, too.)
func logLines(r io.Reader, log *slog.Logger) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		text := strings.ToLower(lines.Text())
		failed := slices.ContainsFunc([]string{"error", "fail", "fatal", "can't", "bad file format"}, func(word string) bool { return strings.Contains(text, word) })
		if failed && !strings.Contains(text, "memory overcommit") {
			log.Warn(lines.Text())
		} else {
			log.Debug(lines.Text())
		}
	}
}
