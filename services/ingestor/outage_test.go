package ingestor_test

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/onebell/onebell/pkg/embed"
	"github.com/onebell/onebell/pkg/testkit"
	"github.com/onebell/onebell/proto/topology"
)

func serve(t *testing.T, addr, dir string) *embed.NATS {
	t.Helper()
	n, err := embed.StartNATS(embed.NATSOptions{Addr: addr, Dir: dir, Log: testkit.Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	return n
}

// While JetStream is away nothing is answered 200; when it is back, the repeat stores everything once.
func TestOutage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := serve(t, "127.0.0.1:0", dir)
	natsURL := first.URL()
	url := start(t, natsURL)
	seen := fixture(t, "webhooks/batch_two_events_one_entry.json")
	fresh := fixture(t, "webhooks/optin_one_time_notif_req.json")
	testkit.Eventually(t, "streams are made", func() bool { return post(t, url, seen).status == 200 })

	first.Stop()
	for _, body := range [][]byte{seen, fresh, fixture(t, "webhooks_bad/truncated.json")} {
		if r := post(t, url, body); r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") != "1" {
			t.Errorf("%d %q", r.status, r.header)
		}
	}
	if r := postSigned(t, url, fresh, "wrong"); r.status != 403 {
		t.Errorf("wrong signature: %d", r.status)
	}

	serve(t, strings.TrimPrefix(natsURL, "nats://"), dir)
	for _, body := range [][]byte{seen, fresh} {
		testkit.Eventually(t, "the repeat is stored", func() bool { return post(t, url, body).status == 200 })
	}
	js := connect(t, natsURL)
	if optins, events := count(t, js, topology.Optins), count(t, js, topology.Events); optins != 2 || events != 1 {
		t.Errorf("%d opt-ins, %d events", optins, events)
	}
}

// It listens before NATS is there, and begins by itself when it comes.
func TestNATSComesLate(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	url := start(t, "nats://"+addr)
	body := fixture(t, "webhooks/optin_one_time_notif_req.json")
	if r := post(t, url, body); r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") != "1" {
		t.Errorf("%d %q", r.status, r.header)
	}
	serve(t, addr, t.TempDir())
	testkit.Eventually(t, "stored", func() bool { return post(t, url, body).status == 200 })
	if n := count(t, connect(t, "nats://"+addr), topology.Optins); n != 1 {
		t.Errorf("%d opt-ins", n)
	}
}
