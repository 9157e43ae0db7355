package up

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/onebell/onebell/pkg/embed"
	"github.com/onebell/onebell/pkg/lifecycle"
)

// startNATS starts the embedded NATS server, unless the user named one.
func (p *plan) startNATS(ctx context.Context, log *slog.Logger) (url string, part lifecycle.Part, err error) {
	if url := p.environ["ONEBELL_NATS_URL"]; url != "" {
		log.Info("using the NATS of ONEBELL_NATS_URL: no server of our own is started")
		return url, idle("nats"), nil
	}
	if err := free(ctx, "ONEBELL_NATS_ADDR", p.NATSAddr); err != nil {
		return "", part, err
	}
	if p.NATSSync == "interval" {
		log.Warn("the embedded NATS syncs to disk every two minutes: a power cut or a crash of the operating system may lose what was acknowledged since", "setting", "ONEBELL_NATS_SYNC=interval")
	}
	server, err := embed.StartNATS(embed.NATSOptions{
		Addr: string(p.NATSAddr), Dir: filepath.Join(p.DataDir, "nats"), SyncAlways: p.NATSSync == "always", Log: log,
	})
	if err != nil {
		return "", part, err
	}
	return server.URL(), lifecycle.Part{Name: "nats", Run: func(ctx context.Context) error {
		<-ctx.Done()
		server.Stop()
		return nil
	}}, nil
}

// startRedis starts the private Redis, unless the user named one. Where there is no redis-server a stand-in does its work.
func (p *plan) startRedis(ctx context.Context, log *slog.Logger) (url string, part lifecycle.Part, err error) {
	if url := p.environ["ONEBELL_REDIS_URL"]; url != "" {
		log.Info("using the Redis of ONEBELL_REDIS_URL: none of our own is started")
		return url, idle("redis"), nil
	}
	if err := free(ctx, "ONEBELL_REDIS_ADDR", p.RedisAddr); err != nil {
		return "", part, err
	}
	k := &keeper{options: embed.RedisOptions{Addr: string(p.RedisAddr), Dir: filepath.Join(p.DataDir, "redis"), Log: log}, log: log}
	err = k.start(ctx)
	if errors.Is(err, embed.ErrNoRedis) {
		log.Warn("no redis-server on PATH: a stand-in inside this process does its work. It is slower and keeps nothing on disk; the token service rebuilds it from the streams at each start")
		k.server, err = embed.StartStandIn(string(p.RedisAddr))
	}
	if err != nil {
		return "", part, err
	}
	// A restart must find the address that the services know.
	k.options.Addr = strings.TrimPrefix(k.server.URL(), "redis://")
	return k.server.URL(), lifecycle.Part{Name: "redis", Run: k.keep}, nil
}

// idle is the part of a server that is not ours.
func idle(name string) lifecycle.Part {
	return lifecycle.Part{Name: name, Run: func(ctx context.Context) error { <-ctx.Done(); return nil }}
}

// keeper keeps a redis-server running.
type keeper struct {
	options embed.RedisOptions
	server  *embed.Redis
	log     *slog.Logger
}

// start starts the server. Redis is an index of the streams: files of it that cannot be read any more (a disk that was
// full, a machine that lost power) are put aside, and the index is rebuilt.
func (k *keeper) start(ctx context.Context) error {
	server, err := embed.StartRedis(ctx, k.options)
	if err == nil {
		k.server = server
		return nil
	}
	if errors.Is(err, embed.ErrNoRedis) || errors.Is(err, syscall.EADDRINUSE) || ctx.Err() != nil || empty(k.options.Dir) {
		return err
	}
	aside := fmt.Sprintf("%s.unreadable-%d", k.options.Dir, time.Now().Unix())
	if rerr := os.Rename(k.options.Dir, aside); rerr != nil {
		return errors.Join(err, rerr)
	}
	k.log.Error("redis-server does not start with its files: they are put aside, and the index is rebuilt from the streams", "dir", aside, "err", err)
	if k.server, err = embed.StartRedis(ctx, k.options); err != nil {
		return err
	}
	return nil
}

func empty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err != nil || len(entries) == 0
}

// patience is how long the keeper tries to bring back a server that ended: services wait that long and lose nothing.
const patience = time.Minute

// keep starts the server again when it ends unasked, and stops it when ctx ends.
func (k *keeper) keep(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			k.server.Stop()
			return nil
		case <-k.server.Gone:
		}
		k.log.Error("redis-server ended although nobody stopped it: starting it again")
		if err := k.revive(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("redis-server cannot be started again: %w", err)
		}
		k.log.Info("redis-server is back")
	}
}

func (k *keeper) revive(ctx context.Context) error {
	deadline := time.Now().Add(patience)
	for {
		err := k.start(ctx)
		if err == nil || time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
		k.log.Warn("redis-server does not start yet", "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}
