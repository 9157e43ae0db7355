// Package redislua opens Redis, standalone, Cluster or Sentinel by URL, and runs Lua scripts: alone, and many in one round trip.
// It knows no key.
package redislua

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/onebell/onebell/pkg/fault"
)

// Settings of a program that talks to Redis.
type Settings struct {
	RedisURL string `env:"ONEBELL_REDIS_URL" envDefault:"redis://127.0.0.1:6379" help:"where Redis is: redis://, rediss://, redis+cluster://, redis+sentinel://" secret:"url"`
}

// Open makes a client for redis://, rediss://, redis+cluster:// or redis+sentinel://host:port,host:port/master. It does not
// connect yet.
func Open(rawURL string) (redis.UniversalClient, error) {
	// The library writes lines of its own to stderr about what it also returns as an error.
	quiet.Do(func() { redis.SetLogger(silence{}) })
	o, err := parse(rawURL)
	if err != nil {
		return nil, fault.New(fault.Invalid, "bad_setting", err)
	}
	o.ContextTimeoutEnabled = true
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = 2*time.Second, 3*time.Second, 3*time.Second
	// As many connections as callers wait at the same time: go-redis' default of 10 for each core halves the rate under AOF always.
	o.PoolSize = 64
	// One repeat, for a connection that the server closed: every script answers the same when asked twice.
	o.MaxRetries = 1
	return redis.NewUniversalClient(o), nil
}

var quiet sync.Once

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

func parse(rawURL string) (*redis.UniversalOptions, error) {
	scheme, rest, _ := strings.Cut(rawURL, "://")
	kind := strings.TrimPrefix(strings.TrimPrefix(scheme, "rediss+"), "redis+")
	base := "redis"
	if strings.HasPrefix(scheme, "rediss") {
		base = "rediss"
	}
	switch kind {
	case "redis", "rediss":
		one, err := redis.ParseURL(base + "://" + rest)
		if err != nil {
			return nil, fmt.Errorf("redis url: %w", redact(err))
		}
		return &redis.UniversalOptions{
			Addrs: []string{one.Addr}, DB: one.DB, Username: one.Username, Password: one.Password, TLSConfig: one.TLSConfig,
		}, nil
	case "cluster", "sentinel":
		hosts, path := rest, ""
		if at := strings.LastIndex(rest, "/"); at >= 0 {
			hosts, path = rest[:at], rest[at+1:]
		}
		credentials := ""
		if at := strings.LastIndex(hosts, "@"); at >= 0 {
			credentials, hosts = hosts[:at+1], hosts[at+1:]
		}
		addrs := strings.Split(hosts, ",")
		one, err := redis.ParseURL(base + "://" + credentials + addrs[0])
		if err != nil {
			return nil, fmt.Errorf("redis url: %w", redact(err))
		}
		o := &redis.UniversalOptions{Addrs: addrs, Username: one.Username, Password: one.Password, TLSConfig: one.TLSConfig}
		if kind == "sentinel" {
			if path == "" {
				return nil, errors.New("redis url: expected redis+sentinel://host:port,host:port/NAME-OF-THE-MASTER")
			}
			o.MasterName = path
			return o, nil
		}
		o.IsClusterMode = true
		return o, nil
	}
	return nil, errors.New("redis url: expected redis://, rediss://, redis+cluster:// or redis+sentinel://")
}

// redact drops the address from an error of net/url: it may hold a password.
func redact(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// Script is a Lua script with a name for errors and metrics.
type Script struct {
	Name string
	*redis.Script
}

// NewScript makes a script from its text.
func NewScript(name, text string) *Script { return &Script{name, redis.NewScript(text)} }

// Call is one run of a script. All keys are in one slot.
type Call struct {
	Script *Script
	Keys   []string
	Args   []any
}

// Load loads the scripts on every master, so that pipelines find them.
func Load(ctx context.Context, rdb redis.UniversalClient, scripts ...*Script) error {
	load := func(ctx context.Context, c redis.Cmdable) error {
		for _, s := range scripts {
			if err := s.Load(ctx, c).Err(); err != nil {
				return fmt.Errorf("load script %s: %w", s.Name, err)
			}
		}
		return nil
	}
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return load(ctx, c) })
	}
	return load(ctx, rdb)
}

// Pipeline runs many calls, in order for each slot, in one round trip for each server, and gives each its result and error
// in its place. Calls whose script the server had forgotten (restart, failover) are loaded and run again, those only.
func Pipeline(ctx context.Context, rdb redis.UniversalClient, calls []Call) []*redis.Cmd {
	results := pipeline(ctx, rdb, calls)
	var missing []int
	for i, r := range results {
		if redis.HasErrorPrefix(r.Err(), "NOSCRIPT") {
			missing = append(missing, i)
		}
	}
	if len(missing) == 0 {
		return results
	}
	again := make([]Call, 0, len(missing))
	scripts := map[*Script]bool{}
	for _, i := range missing {
		again = append(again, calls[i])
		scripts[calls[i].Script] = true
	}
	for s := range scripts {
		if err := Load(ctx, rdb, s); err != nil {
			return results
		}
	}
	for j, r := range pipeline(ctx, rdb, again) {
		results[missing[j]] = r
	}
	return results
}

func pipeline(ctx context.Context, rdb redis.UniversalClient, calls []Call) []*redis.Cmd {
	pipe := rdb.Pipeline()
	results := make([]*redis.Cmd, len(calls))
	for i, c := range calls {
		results[i] = pipe.EvalSha(ctx, c.Script.Hash(), c.Keys, c.Args...)
	}
	// Each command carries its own error.
	_, _ = pipe.Exec(ctx)
	return results
}
