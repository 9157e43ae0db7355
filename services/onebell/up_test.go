package onebell_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/onebell/onebell/pkg/redislua"
	"github.com/onebell/onebell/pkg/rpc"
	"github.com/onebell/onebell/pkg/testkit"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/services/onebell/internal/ready"
)

// scratch holds the program while the tests run.
var scratch string

// binary is the program itself, built once: only a process of its own can be killed.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "onebell")
	out, err := exec.Command("go", "build", "-o", path, "./cmd/onebell").CombinedOutput()
	if err != nil {
		return "", errors.Join(err, errors.New(string(out)))
	}
	return path, nil
})

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "onebell-test-"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(scratch)
	os.Exit(code)
}

const page = "104200000000017" // of the demo shop

// process is a running `onebell up --demo`.
type process struct {
	cmd   *exec.Cmd
	dir   string
	log   *bytes.Buffer // read it after the process has ended
	ended chan error
	ready.File
}

// anyPort is an environment in which every listener takes any free port.
func anyPort() []string {
	environ := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	for _, name := range []string{"INGESTOR", "TOKEN", "ALERT", "ALERT_HTTP", "CONSOLE", "SIMULATOR", "ADMIN", "NATS", "REDIS"} {
		environ = append(environ, "ONEBELL_"+name+"_ADDR=127.0.0.1:0")
	}
	return environ
}

func command(t *testing.T, dir string, environ []string) *exec.Cmd {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "up", "--demo", "--data", dir, "--ready-file", filepath.Join(dir, "ready.json"))
	cmd.Env = environ
	return cmd
}

// start starts it on a directory and waits for the ready file.
func start(t *testing.T, dir string, environ ...string) *process {
	t.Helper()
	p := &process{cmd: command(t, dir, append(anyPort(), environ...)), dir: dir, log: &bytes.Buffer{}, ended: make(chan error, 1)}
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	testkit.Eventually(t, "the ready file of this process", func() bool {
		select {
		case err := <-p.ended:
			t.Fatalf("onebell up ended: %v\n%s", err, p.log)
		default:
		}
		var err error
		p.File, err = ready.Read(filepath.Join(dir, "ready.json"))
		return err == nil && p.PID == p.cmd.Process.Pid
	})
	return p
}

// end sends a signal and waits.
func (p *process) end(t *testing.T, s syscall.Signal) error {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-p.ended:
		return err
	case <-time.After(40 * time.Second):
		t.Fatalf("not ended after %s", s)
		return nil
	}
}

// redisPID is the process of the private Redis.
func (p *process) redisPID(t *testing.T) int {
	t.Helper()
	rdb, err := redislua.Open(p.Redis)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rdb.Close() }()
	info, err := rdb.InfoMap(t.Context(), "server").Result()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(info["Server"]["process_id"])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// gone says whether a process has ended; one that nobody has waited for yet (a container's first process may not) has, too.
func gone(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func status(t *testing.T, url string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// tokens calls the token service.
func (p *process) tokens(t *testing.T) tokenv1.TokenServiceClient {
	t.Helper()
	conn, err := rpc.Dial(p.TokenGRPC, "", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return tokenv1.NewTokenServiceClient(conn)
}

func (p *process) waiting(t *testing.T) int64 {
	t.Helper()
	answer, err := p.tokens(t).Count(t.Context(), &tokenv1.CountRequest{PageId: page, Topic: "stock:A"})
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.GetCounts()) == 0 {
		return 0
	}
	return answer.GetCounts()[0].GetWaiting()
}

func TestUpStartsAnnouncesAndStops(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir())
	redis := p.redisPID(t)
	for url, want := range map[string]int{
		p.Admin + "/readyz": http.StatusOK, p.Simulator + "/": http.StatusOK, p.Console + "/": http.StatusOK,
		p.Webhook + "?hub.mode=subscribe&hub.verify_token=demo-verify-token&hub.challenge=1": http.StatusOK,
		p.AlertHTTP + "/v1/events": http.StatusMethodNotAllowed,
	} {
		if got := status(t, url); got != want {
			t.Errorf("GET %s: %d, want %d", url, got, want)
		}
	}

	out, err := command(t, p.dir, anyPort()).CombinedOutput()
	var second *exec.ExitError
	if !errors.As(err, &second) || second.ExitCode() != 1 || !strings.Contains(string(out), strconv.Itoa(p.PID)) {
		t.Errorf("a second one on the directory: %v, said %q; want status 1 and the first one's pid", err, out)
	}
	if _, err := ready.Read(filepath.Join(p.dir, "ready.json")); err != nil {
		t.Errorf("the second one took the first one's ready file: %v", err)
	}

	if err := p.end(t, syscall.SIGTERM); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	if _, err := os.Stat(filepath.Join(p.dir, "ready.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the ready file is left: %v", err)
	}
	if !gone(redis) {
		t.Error("redis-server is left")
	}
	if log := p.log.String(); strings.Contains(log, `"level":"ERROR"`) || strings.Contains(log, "NATS is away") {
		t.Errorf("not stopped in order:\n%s", log)
	}
}

func TestNothingIsLostWhenKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, dir)
	items := []*tokenv1.RecordItem{}
	for _, person := range []string{"1", "2", "3"} {
		items = append(items, &tokenv1.RecordItem{PageId: page, Psid: person, Kind: tokenv1.Kind_KIND_OTN, Token: "t" + person, Topic: "stock:A"})
	}
	if _, err := p.tokens(t).Record(t.Context(), &tokenv1.RecordRequest{Items: items}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "three people wait", func() bool { return p.waiting(t) == 3 })
	redis := p.redisPID(t)
	_ = p.end(t, syscall.SIGKILL)
	testkit.Eventually(t, "redis-server is gone, too", func() bool { return gone(redis) })

	p = start(t, dir)
	if n := p.waiting(t); n != 3 {
		t.Errorf("after a kill %d wait, want 3", n)
	}
	if err := p.end(t, syscall.SIGTERM); err != nil {
		t.Error(err)
	}

	// Redis is an index of the streams: without it the start takes longer, and the counts are the same.
	if err := os.RemoveAll(filepath.Join(dir, "redis")); err != nil {
		t.Fatal(err)
	}
	p = start(t, dir)
	if n := p.waiting(t); n != 3 {
		t.Errorf("without the data of Redis %d wait, want 3", n)
	}
}

func TestAStandInWithoutRedis(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir(), "PATH=/nowhere")
	if got := status(t, p.Admin+"/readyz"); got != http.StatusOK {
		t.Errorf("readyz: %d", got)
	}
	if err := p.end(t, syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if !strings.Contains(p.log.String(), "no redis-server on PATH") {
		t.Errorf("the log does not warn of the stand-in:\n%s", p.log)
	}
}

func TestSettingsAreNeeded(t *testing.T) {
	t.Parallel()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "up", "--data", t.TempDir())
	cmd.Env = append(anyPort(), "ONEBELL_LOG_LEVEL=loud")
	out, err := cmd.CombinedOutput()
	var bad *exec.ExitError
	if !errors.As(err, &bad) || bad.ExitCode() != 2 {
		t.Errorf("err = %v, want status 2", err)
	}
	for _, name := range []string{"ONEBELL_PAGES_FILE", "ONEBELL_RULES_FILE", "ONEBELL_LOG_LEVEL"} {
		if !strings.Contains(string(out), name) {
			t.Errorf("%s is not named in:\n%s", name, out)
		}
	}
}
