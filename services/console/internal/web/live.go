package web

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// pace is how often a section is looked at: outcomes appear within it, counts within it and `keep`.
	pace = 500 * time.Millisecond
	// quiet is the longest silence on a live connection: a browser that is gone is noticed at the next line.
	quiet = 15 * time.Second
	// liveFor bounds a connection. The browser comes back by itself and passes the door again.
	liveFor = 5 * time.Minute
)

// live sends each section as a server-sent event named after it: at once, then whenever it looks different.
func (s *Site) live(w http.ResponseWriter, r *http.Request) {
	var watchers sync.WaitGroup
	defer watchers.Wait()
	ctx, cancel := context.WithTimeout(r.Context(), liveFor)
	defer cancel()
	changed := make(chan rendered)
	for _, sec := range s.sections {
		watchers.Go(func() { s.watch(ctx, sec, changed) })
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // proxies pass it on at once
	out := http.NewResponseController(w)
	silence := time.NewTicker(quiet)
	defer silence.Stop()
	text := "retry: 2000\n\n"
	for {
		_ = out.SetWriteDeadline(time.Now().Add(quiet)) // the server's own limit is for whole pages
		if _, err := fmt.Fprint(w, text); err != nil {
			return
		}
		if err := out.Flush(); err != nil {
			return
		}
		select {
		case sec := <-changed:
			text = event(sec)
		case <-silence.C:
			text = ": still here\n\n"
		case <-ctx.Done():
			return
		case <-s.closed:
			return
		}
	}
}

// watch renders a section again and again until ctx ends, and hands it over when it looks different.
func (s *Site) watch(ctx context.Context, sec section, changed chan<- rendered) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	var shown rendered
	for {
		if now := s.render(ctx, sec); now != shown {
			select {
			case changed <- now:
				shown = now
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// event is a server-sent event: each line of its data begins with "data:", for a line break ends a field.
func event(sec rendered) string {
	lines := strings.FieldsFunc(string(sec.HTML), func(r rune) bool { return r == '\n' || r == '\r' })
	return "event: " + sec.ID + "\ndata: " + strings.Join(lines, "\ndata: ") + "\n\n"
}
