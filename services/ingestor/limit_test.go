package ingestor_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/pkg/testkit"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/ingestor"
)

// lines collects what is logged.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A server that takes no more than 1 MiB: said at start, and answered 413 above that; below it all promises hold. The log,
// at its most talkative, shows neither tokens nor secrets nor texts.
func TestSmallServer(t *testing.T) {
	t.Parallel()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), MaxPayload: 1 << 20, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(srv.Shutdown)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pages.yaml")
	if err := os.WriteFile(file, []byte(pagesFile), 0o600); err != nil {
		t.Fatal(err)
	}
	log := &lines{}
	p := testkit.Process(t)
	p.Log = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg := ingestor.Config{Settings: stream.Settings{NATSURL: srv.ClientURL(), Replicas: 1}, PagesFile: file, Listener: ln}
	testkit.Run(t, "ingestor", func(ctx context.Context) error { return ingestor.Run(ctx, cfg, p) })
	url := "http://" + ln.Addr().String() + "/webhook"

	testkit.Eventually(t, "it says so", func() bool { return strings.Contains(log.String(), `"max_payload":1048576`) })
	const frame = `{"entry":[{"id":"104200000000017","messaging":[{"message":{"mid":"m1","text":""}}]}]}`
	for size, status := range map[int]int{1<<20 - 64<<10: 200, 1<<20 - 64<<10 + 1: 413} {
		body := []byte(strings.Replace(frame, `"text":"`, `"text":"`+strings.Repeat("x", size-len(frame)), 1))
		if r := post(t, url, body); r.status != status {
			t.Errorf("%d bytes: %d", len(body), r.status)
		}
	}
	post(t, url, fixture(t, "webhooks/optin_one_time_notif_req.json"))
	post(t, url, fixture(t, "webhooks_bad/truncated.json"))
	postSigned(t, url, fixture(t, "webhooks/message_text.json"), "foreign-secret")
	js := connect(t, srv.ClientURL())
	if events, optins, dead := count(t, js, topology.Events), count(t, js, topology.Optins), count(t, js, topology.Dead); events != 1 || optins != 1 || dead != 2 {
		t.Errorf("%d events, %d opt-ins, %d dead letters", events, optins, dead)
	}
	for _, secret := range []string{"new-secret", "old-secret", "foreign-secret", "verify-1", "otn-fx-", "blue one", "xxxx", person} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log shows %q", secret)
		}
	}
}
