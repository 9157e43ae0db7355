package up

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/onebell/onebell/pkg/embed"
	"github.com/onebell/onebell/pkg/redislua"
	"github.com/onebell/onebell/pkg/testkit"
)

func keepRedis(t *testing.T, dir string) redis.UniversalClient {
	t.Helper()
	p := &plan{Settings: Settings{DataDir: dir, RedisAddr: "127.0.0.1:0"}}
	url, part, err := p.startRedis(t.Context(), testkit.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	testkit.Run(t, "redis", part.Run)
	rdb, err := redislua.Open(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func TestRedisThatEndsIsStartedAgainAtItsAddress(t *testing.T) {
	t.Parallel()
	rdb := keepRedis(t, t.TempDir())
	if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	before := info(t.Context(), rdb, "run_id")
	pid, err := strconv.Atoi(info(t.Context(), rdb, "process_id"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "another redis-server at the same address", func() bool {
		id := info(t.Context(), rdb, "run_id")
		return id != "" && id != before
	})
	if v, err := rdb.Get(t.Context(), "k").Result(); v != "v" {
		t.Errorf("k = %q, %v: want what was stored before", v, err)
	}
}

// info is a line of what the server says of itself; empty while it is away.
func info(ctx context.Context, rdb redis.UniversalClient, name string) string {
	all, err := rdb.InfoMap(ctx, "server").Result()
	if err != nil {
		return ""
	}
	return all["Server"][name]
}

func TestUnreadableFilesOfRedisPreventNoStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	aof := filepath.Join(dir, "redis", "appendonlydir")
	if err := os.MkdirAll(aof, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"appendonly.aof.manifest":   "file appendonly.aof.1.incr.aof seq 1 type i\n",
		"appendonly.aof.1.incr.aof": "rubbish that is no append-only file\n",
	} {
		if err := os.WriteFile(filepath.Join(aof, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := keepRedis(t, dir).Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
	if aside, _ := filepath.Glob(filepath.Join(dir, "redis.unreadable-*")); len(aside) != 1 {
		t.Errorf("put aside: %v, want one directory", aside)
	}
}

func TestAServerOfTheUserIsUsed(t *testing.T) {
	t.Parallel()
	p := &plan{environ: map[string]string{"ONEBELL_NATS_URL": "nats://n:1", "ONEBELL_REDIS_URL": "redis://r:2"}}
	nats, _, err := p.startNATS(t.Context(), testkit.Log(t))
	if err != nil || nats != "nats://n:1" {
		t.Errorf("NATS at %s, %v", nats, err)
	}
	redis, _, err := p.startRedis(t.Context(), testkit.Log(t))
	if err != nil || redis != "redis://r:2" {
		t.Errorf("Redis at %s, %v", redis, err)
	}
}

func TestStoppingAServerTwiceIsHarmless(t *testing.T) {
	t.Parallel()
	k := &keeper{options: embed.RedisOptions{Addr: "127.0.0.1:0", Log: testkit.Log(t)}, log: testkit.Log(t)}
	if err := k.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.server.Stop()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := k.keep(ended); err != nil {
		t.Error(err)
	}
}
