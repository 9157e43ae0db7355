// Package web is the page: what stands where, in which words, and who may see it. It keeps nothing.
package web

import (
	"bytes"
	"context"
	"embed"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onebell/onebell/pkg/door"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/services/console/internal/ask"
	"github.com/onebell/onebell/services/console/internal/fresh"
	"github.com/onebell/onebell/services/console/internal/streams"
	"github.com/onebell/onebell/services/console/internal/tail"
)

const (
	keep  = 2 * time.Second // how old a count on the page may be
	limit = 2 * time.Second // how long a reader waits for a service that is away
)

//go:embed templates static
var files embed.FS

// Parts are what the page is made from.
type Parts struct {
	Log       *slog.Logger
	Door      *door.Door
	Pages     func() pages.File
	Outcomes  *tail.Tail
	JetStream jetstream.JetStream
	Services  *ask.Services
	Version   string
}

// Site serves the page.
type Site struct {
	Parts
	http.Handler
	page     *template.Template
	sections []section
	counts   *fresh.Answer[map[string][]*tokenv1.TopicCount]
	streams  *fresh.Answer[[]streams.Stream]
	dead     *fresh.Answer[streams.Letters]
	closed   chan struct{}
	Close    func() // ends live pages; may be called twice
}

// section is a part of the overview that is rendered, and goes wrong, by itself.
type section struct {
	ID, Title string
	view      func(context.Context) view
}

// view is what a section's template gets.
type view struct {
	Problem string // what is wrong, in words; empty: nothing
	Data    any
}

// New makes the site.
func New(p Parts) *Site {
	s := &Site{Parts: p, closed: make(chan struct{})}
	s.Close = sync.OnceFunc(func() { close(s.closed) })
	s.page = template.Must(template.New("").Funcs(words).ParseFS(files, "templates/*.html"))
	s.counts = fresh.New(keep, limit, func(ctx context.Context) (map[string][]*tokenv1.TopicCount, error) {
		return p.Services.Counts(ctx, pageIDs(p.Pages()))
	})
	s.streams = fresh.New(keep, limit, func(ctx context.Context) ([]streams.Stream, error) { return streams.Look(ctx, p.JetStream) })
	s.dead = fresh.New(keep, limit, streams.NewDead(p.JetStream).Count)
	s.sections = []section{
		{"permissions", "Who is waiting", s.permissions},
		{"outcomes", "Last outcomes", s.outcomes},
		{"streams", "Streams", s.trays},
		{"dead", "Dead letters", s.letters},
	}
	s.Handler = s.routes()
	return s
}

func (s *Site) routes() http.Handler {
	static, err := fs.Sub(files, "static")
	if err != nil {
		panic(err) // the folder is embedded
	}
	inside := http.NewServeMux()
	inside.HandleFunc("GET /{$}", s.overview)
	inside.HandleFunc("GET /live", s.live)
	inside.HandleFunc("GET /explain", s.explain)
	all := http.NewServeMux()
	all.Handle("GET /static/", http.StripPrefix("/static/", http.FileServerFS(static)))
	all.HandleFunc("POST /signin", s.signIn)
	all.HandleFunc("POST /signout", s.signOut)
	all.Handle("/", s.admit(inside))
	return safe(http.NewCrossOriginProtection().Handler(all))
}

// safe says to browsers what this page never does: load from elsewhere, run what stands in it, or be framed.
func safe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
			"form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		// Not no-referrer: then forms would be sent with Origin null, which the cross-origin check refuses.
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// frame is what every whole page gets.
type frame struct {
	Title    string
	Live     bool // it follows /live
	SignedIn bool
	Version  string
	Body     any
}

func (s *Site) show(w http.ResponseWriter, code int, name string, f frame) {
	f.Version = s.Version
	var b bytes.Buffer
	if err := s.page.ExecuteTemplate(&b, name, f); err != nil {
		s.Log.Error("page cannot be made", "page", name, "err", err)
		http.Error(w, "the page cannot be made: see the log of the console", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = b.WriteTo(w)
}

// rendered is a section as HTML.
type rendered struct {
	ID, Title string
	HTML      template.HTML
}

// render makes one section: what its template wrote, which has been escaped there.
func (s *Site) render(ctx context.Context, sec section) rendered {
	var b bytes.Buffer
	if err := s.page.ExecuteTemplate(&b, sec.ID, sec.view(ctx)); err != nil {
		s.Log.Error("section cannot be made", "section", sec.ID, "err", err)
		return rendered{sec.ID, sec.Title, "<p class=problem>This part cannot be shown: see the log of the console.</p>"}
	}
	return rendered{sec.ID, sec.Title, template.HTML(b.String())} //nolint:gosec // written by html/template
}

// overview waits for all sections at once: one that is away costs its own limit, not the sum.
func (s *Site) overview(w http.ResponseWriter, r *http.Request) {
	body := make([]rendered, len(s.sections))
	var wg sync.WaitGroup
	for i, sec := range s.sections {
		wg.Go(func() { body[i] = s.render(r.Context(), sec) })
	}
	wg.Wait()
	s.show(w, http.StatusOK, "overview", frame{Title: "Overview", Live: true, SignedIn: signedIn(r), Body: body})
}
