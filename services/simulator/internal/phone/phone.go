// Package phone is the simulator's page: a phone in which a person chats with the demo shop, the shop's desk beside it,
// and what the platform saw. It shows; what is done goes through the JSON API of package steer.
package phone

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/onebell/onebell/services/simulator/internal/messenger"
	"github.com/onebell/onebell/services/simulator/internal/shop"
)

//go:embed page.html
var templates embed.FS

//go:embed static
var static embed.FS

// Bounds of the page.
const (
	shownPeople = 8
	shownLines  = 60
	gather      = 60 * time.Millisecond // changes within it reach the browser as one
	heartbeat   = 15 * time.Second
)

// Page serves the phone.
type Page struct {
	messenger *messenger.Messenger
	desk      *shop.Desk
	log       *slog.Logger
	template  *template.Template
	closing   chan struct{}
	close     func()
}

// New makes the page.
func New(m *messenger.Messenger, d *shop.Desk, log *slog.Logger) *Page {
	p := &Page{messenger: m, desk: d, log: log, closing: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closing) })
	p.template = template.Must(template.ParseFS(templates, "page.html"))
	return p
}

// Close ends the live connections, which would otherwise hold up a stop.
func (p *Page) Close() { p.close() }

// Handler serves the routes.
func (p *Page) Handler() http.Handler {
	files, err := fs.Sub(static, "static")
	if err != nil { // compiled in
		panic(err)
	}
	mux := http.NewServeMux()
	show := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { p.show(w, r, name) }
	}
	mux.HandleFunc("GET /{$}", show("page"))
	for _, name := range []string{"thread", "people", "desk", "log"} {
		mux.HandleFunc("GET /phone/"+name, show(name))
	}
	mux.HandleFunc("GET /phone/live", p.live)
	mux.Handle("GET /static/", http.StripPrefix("/static/", http.FileServerFS(files)))
	return mux
}

func (p *Page) show(w http.ResponseWriter, r *http.Request, name string) {
	view := p.look(r.URL.Query().Get("psid"))
	var out bytes.Buffer
	if err := p.template.ExecuteTemplate(&out, name, view); err != nil {
		p.log.Error("the page could not be made", "err", err)
		http.Error(w, "the page could not be made: see the log", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = out.WriteTo(w) // the browser went away: nobody to tell
}

// live tells the browser what changed, as server-sent events: each a JSON list of names.
func (p *Page) live(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	flush := http.NewResponseController(w)
	watcher := p.messenger.Watch()
	defer watcher.End()
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	if _, err := fmt.Fprint(w, "retry: 1000\ndata: []\n\n"); err != nil || flush.Flush() != nil {
		return
	}
	for {
		line := ": still here\n\n"
		select {
		case <-r.Context().Done():
			return
		case <-p.closing:
			return
		case <-beat.C:
		case <-watcher.Wake:
			if !p.wait(r, gather) {
				return
			}
			names, _ := json.Marshal(watcher.Changed()) // strings: cannot fail
			line = "data: " + string(names) + "\n\n"
		}
		if _, err := fmt.Fprint(w, line); err != nil || flush.Flush() != nil {
			return
		}
	}
}

func (p *Page) wait(r *http.Request, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
	case <-p.closing:
	}
	return false
}
