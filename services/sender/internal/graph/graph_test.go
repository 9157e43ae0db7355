package graph

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sendv1 "github.com/onebell/onebell/proto/onebell/send/v1"
	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/services/sender/internal/answer"
)

var (
	testPage = pages.Page{ID: "104200000000017", AccessToken: "page-token", AppSecrets: []pages.Secret{"secret"}}
	hello    = &sendv1.Message{Text: "hello"}
)

func send(t *testing.T, address string, timeout time.Duration) answer.Answer {
	t.Helper()
	c := New(address, "v25.0", timeout, 4)
	t.Cleanup(c.Close)
	return c.Send(t.Context(), testPage, "otn", "send", hello)
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then the server notices that the caller went away
		h(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestWhatIsCertainlyNotSent(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := ln.Addr().String()
	_ = ln.Close()
	plain := serve(t, func(http.ResponseWriter, *http.Request) {})
	for name, address := range map[string]string{
		"connection refused": "http://" + free,
		"name not known":     "http://no-such-host.invalid",
		"TLS handshake":      strings.Replace(plain, "http://", "https://", 1),
	} {
		if a := send(t, address, 5*time.Second); a.Transport != answer.Unreached || a.Err == nil {
			t.Errorf("%s: %+v", name, a)
		} else if strings.Contains(a.Err.Error(), "appsecret_proof") {
			t.Errorf("%s: the error holds the address: %v", name, a.Err)
		}
	}
}

func TestWhatMayHaveBeenSent(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.HandlerFunc{
		"no answer in time":     func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"cut before the answer": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"cut within the answer": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte(`{"message_id":`))
			panic(http.ErrAbortHandler)
		},
		"an answer without end": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = w.Write([]byte(" "))
				_ = http.NewResponseController(w).Flush()
			}
		},
	} {
		var calls atomic.Int32
		address := serve(t, func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			h(w, r)
		})
		begun := time.Now()
		a := send(t, address, 500*time.Millisecond)
		if a.Err == nil || a.Transport == answer.Unreached || a.MessageID != "" {
			t.Errorf("%s: %+v", name, a)
		}
		if calls.Load() != 1 || time.Since(begun) > 5*time.Second {
			t.Errorf("%s: %d calls in %s", name, calls.Load(), time.Since(begun))
		}
	}
}

func TestAnswersAreRead(t *testing.T) {
	t.Parallel()
	throttled := header(t, "x_business_use_case_usage_throttled.json")
	for _, c := range []struct {
		name   string
		status int
		header http.Header
		body   string
		want   answer.Answer
	}{
		{"sent", 200, nil, `{"recipient_id":"1","message_id":"m_1"}`, answer.Answer{Status: 200, MessageID: "m_1"}},
		{"sent, no recipient", 200, header(t, "x_business_use_case_usage_ok.json"), `{"message_id":"m_1"}`, answer.Answer{Status: 200, MessageID: "m_1"}},
		{"error", 400, nil, `{"error":{"message":"x","code":10,"error_subcode":2018278,"fbtrace_id":"F"}}`, answer.Answer{Status: 400, Failed: true, Code: 10, Subcode: 2018278, TraceID: "F"}},
		{"throttled", 400, throttled, `{"error":{"code":80006}}`, answer.Answer{Status: 400, Failed: true, Code: 80006, Regain: 19 * time.Minute}},
		{"retry after", 429, http.Header{"Retry-After": {"90"}}, `{"error":{"code":613,"is_transient":true}}`, answer.Answer{Status: 429, Failed: true, Code: 613, Transient: true, RetryAfter: 90 * time.Second}},
		{"redirect", 302, http.Header{"Location": {"/elsewhere"}}, `{}`, answer.Answer{Status: 302}},
	} {
		address := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "elsewhere") {
				t.Error("a redirect was followed")
			}
			maps.Copy(w.Header(), c.header)
			w.WriteHeader(c.status)
			_, _ = fmt.Fprint(w, c.body)
		})
		if got := send(t, address, 5*time.Second); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestRubbishIsNoAnswer(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "<html>upstream hiccup</html>", "[]", `{"message_id":5}`, strings.Repeat("x", 3*maxAnswer)} {
		address := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, body) })
		if a := send(t, address, 5*time.Second); a.Err == nil || a.MessageID != "" || a.Transport != answer.Answered {
			t.Errorf("%.20q: %+v", body, a)
		}
	}
}

func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	var connections atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, `{"message_id":"m"}`) }))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	c := New(srv.URL, "v25.0", 5*time.Second, 4)
	t.Cleanup(c.Close)
	for range 20 {
		if a := c.Send(context.Background(), testPage, "otn", "send", hello); a.MessageID == "" {
			t.Fatalf("%+v", a)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections for 20 calls", n)
	}
}

func TestRetryAfterAsADate(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	h := http.Header{"Retry-After": {now.Add(time.Minute).Format(http.TimeFormat)}}
	if got := retryAfter(h, now); got != time.Minute {
		t.Errorf("%s", got)
	}
	if got := retryAfter(http.Header{"Retry-After": {"soon"}}, now); got != 0 {
		t.Errorf("%s", got)
	}
}

// header reads a recorded header.
func header(t *testing.T, file string) http.Header {
	t.Helper()
	content, err := os.ReadFile("../../testdata/headers/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]string
	if err := json.Unmarshal(content, &values); err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	for name, value := range values {
		h.Set(name, value)
	}
	return h
}
