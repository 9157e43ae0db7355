// Package admin is the listener for operators of every program: /livez, /readyz, /metrics and /debug/pprof/.
// It serves nothing of the business.
package admin

import (
	"context"
	"fmt"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Readiness collects what must hold before traffic is welcome. Safe for use from many goroutines.
type Readiness struct {
	mu     sync.Mutex
	checks []check
	notes  []note
}

type check struct {
	name string
	ok   func(context.Context) error
}

type note struct {
	name string
	text func() string
}

// Check adds a condition: nil means it holds. It is asked at each request and has a second to answer.
func (r *Readiness) Check(name string, ok func(context.Context) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checks = append(r.checks, check{name, ok})
}

// Note adds a remark for /readyz?verbose that does not make the program unready; empty means: nothing to say.
func (r *Readiness) Note(name string, text func() string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, note{name, text})
}

// Report asks every check and gives the lines of /readyz?verbose.
func (r *Readiness) Report(ctx context.Context) (ready bool, lines []string) {
	r.mu.Lock()
	checks, notes := slices.Clone(r.checks), slices.Clone(r.notes)
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if ready = len(checks) > 0; !ready {
		lines = append(lines, "[-] starting: nobody has said yet what must hold")
	}
	for _, c := range checks {
		if err := c.ok(ctx); err != nil {
			ready = false
			lines = append(lines, fmt.Sprintf("[-] %s: %v", c.name, err))
			continue
		}
		lines = append(lines, "[+] "+c.name)
	}
	for _, n := range notes {
		if text := n.text(); text != "" {
			lines = append(lines, fmt.Sprintf("[i] %s: %s", n.name, text))
		}
	}
	return ready, lines
}

// Handler serves the admin pages.
func Handler(ready *Readiness) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ok, lines := ready.Report(r.Context())
		if !ok {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		if _, verbose := r.URL.Query()["verbose"]; verbose || !ok {
			fmt.Fprintln(w, strings.Join(lines, "\n"))
		}
		if ok {
			fmt.Fprintln(w, "ok")
		}
	})
	mux.Handle("GET /metrics", promhttp.Handler())
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
