package webhook

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/pkg/testkit"
	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/ingestor/internal/seal"
	"github.com/onebell/onebell/services/ingestor/internal/tray"
)

const limit = 100_000

// open serves a handler with a patience of half a second and room for four bodies.
func open(t *testing.T, change func(*Handler)) (addr string) {
	t.Helper()
	_, js := testkit.JetStream(t, topology.Configs(1))
	keys := seal.New(pages.File{Pages: []pages.Page{{ID: "P", AppSecrets: []pages.Secret{"secret"}}}})
	h := New(func() *seal.Keys { return keys }, tray.New(js), Limits{
		Body: func() int { return limit }, InFlight: 4 * limit, Request: 500 * time.Millisecond, Store: 4 * time.Second,
	}, testkit.Log(t))
	if change != nil {
		change(h)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, own := Server(h, ln, testkit.Log(t))
	part := lifecycle.HTTPServer("webhook", own, srv)
	testkit.Run(t, "webhook", func(ctx context.Context) error { return part.Run(ctx) })
	return ln.Addr().String()
}

func post(t *testing.T, addr string, body io.Reader, signature string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+Path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(seal.Header, signature)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	return res
}

func signed(body []byte) string {
	mac := hmac.New(sha256.New, []byte("secret"))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// Size is looked at before the signature, whether the length is announced or not.
func TestSize(t *testing.T) {
	t.Parallel()
	addr := open(t, nil)
	for size, status := range map[int]int{limit: 200, limit + 1: 413, 3 * limit: 413, 40 * limit: 413} {
		body := []byte(`{"x":"` + strings.Repeat("x", size-8) + `"}`)
		signature := signed(body)
		if status == 413 {
			signature = "none"
		}
		if res := post(t, addr, bytes.NewReader(body), signature); res.StatusCode != status {
			t.Errorf("%d bytes announced: %d", size, res.StatusCode)
		}
		if size == 40*limit {
			continue // more than is drained: the sender may see a broken pipe
		}
		if res := post(t, addr, io.MultiReader(bytes.NewReader(body)), signature); res.StatusCode != status {
			t.Errorf("%d bytes: %d", size, res.StatusCode)
		}
	}
}

// Whoever is slow is told, and cut off: in the header, in the body, and when the body drips.
func TestSlow(t *testing.T) {
	t.Parallel()
	addr := open(t, nil)
	for name, parts := range map[string][]string{
		"header": {"POST /webhook HTTP/1.1\r\nHost: x\r\n"},
		"body":   {"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345"},
		"drip":   append([]string{"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"}, strings.Split(strings.Repeat("x", 60), "")...),
		"second": {"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			begin := time.Now()
			go func() {
				for _, part := range parts {
					if _, err := io.WriteString(c, part); err != nil {
						return
					}
					<-time.After(20 * time.Millisecond)
				}
			}()
			_ = c.SetReadDeadline(begin.Add(20 * time.Second))
			answers, err := io.ReadAll(c)
			last := answers[max(0, bytes.LastIndex(answers, []byte("HTTP/1.1"))):]
			if err != nil || !bytes.HasPrefix(last, []byte("HTTP/1.1 408 ")) {
				t.Errorf("%v: %q", err, answers)
			}
			if took := time.Since(begin); took < 400*time.Millisecond {
				t.Errorf("cut off after %s", took)
			}
		})
	}
}

// A connection may rest between requests for longer than one request may take.
func TestRest(t *testing.T) {
	t.Parallel()
	addr := open(t, nil)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answers := bufio.NewReader(c)
	for range 3 {
		fmt.Fprintf(c, "POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nX-Hub-Signature-256: %s\r\n\r\n{}", signed([]byte("{}")))
		res, err := http.ReadResponse(answers, nil)
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("%v %v", res, err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		<-time.After(600 * time.Millisecond)
	}
}

// Above the bound of bytes in flight the answer is 503 at once; afterwards everything is as before.
func TestBusy(t *testing.T) {
	t.Parallel()
	var h *Handler
	addr := open(t, func(own *Handler) { h = own })
	body := []byte(`{"x":"` + strings.Repeat("x", limit/2) + `"}`)
	if !h.held.take(4*limit - 1000) {
		t.Fatal("no room")
	}
	if res := post(t, addr, bytes.NewReader(body), signed(body)); res.StatusCode != 503 || res.Header.Get("Retry-After") != "1" {
		t.Errorf("%d %q", res.StatusCode, res.Header)
	}
	h.held.give(4*limit - 1000)
	for range 20 {
		if res := post(t, addr, bytes.NewReader(body), signed(body)); res.StatusCode != 200 {
			t.Fatalf("%d", res.StatusCode)
		}
	}
	testkit.Eventually(t, "all bytes are given back", func() bool { return h.held.used.Load() == 0 })
}

func TestPanic(t *testing.T) {
	t.Parallel()
	addr := open(t, func(h *Handler) { h.Keys = func() *seal.Keys { panic("secret thing") } })
	if res := post(t, addr, strings.NewReader("{}"), "x"); res.StatusCode != 503 || res.Header.Get("Retry-After") != "1" {
		t.Errorf("%d %q", res.StatusCode, res.Header)
	}
}

func TestNotices(t *testing.T) {
	t.Parallel()
	var n notices
	now := time.Unix(0, 0)
	for _, c := range []struct {
		page  string
		after time.Duration
		due   bool
	}{
		{"A", 0, true},
		{"A", 59 * time.Second, false},
		{"B", 59 * time.Second, true},
		{"A", 60 * time.Second, true},
		{"A", 61 * time.Second, false},
	} {
		if n.due(c.page, now.Add(c.after)) != c.due {
			t.Errorf("%s after %s: %v", c.page, c.after, !c.due)
		}
	}
	for i := range 10 * maxNotices {
		n.due(fmt.Sprint(i), now)
	}
	if len(n.said) > maxNotices {
		t.Errorf("%d pages remembered", len(n.said))
	}
}
