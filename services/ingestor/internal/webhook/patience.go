package webhook

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// net/http starts its time limits with the connection or after the header, and says nothing to a sender whose header is
// slow. Here the limit runs from a request's first byte to its last, and every sender that is cut off is told (408).

// Server is an HTTP server for h and the listener it is to serve on.
func Server(h *Handler, ln net.Listener, log *slog.Logger) (*http.Server, net.Listener) {
	limit := h.Limits.Request
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c, ok := r.Context().Value(connKey{}).(*conn); ok {
				c.enter()
			}
			h.ServeHTTP(w, r)
		}),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
		ConnState: func(c net.Conn, state http.ConnState) {
			if own, ok := c.(*conn); ok && state == http.StateIdle {
				own.rest()
			}
		},
		ReadHeaderTimeout: limit + time.Second, // later than our own limit, for connections that never say a word
		WriteTimeout:      2*limit + h.Limits.Store,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return srv, &listener{ln, limit}
}

type connKey struct{}

type listener struct {
	net.Listener
	limit time.Duration
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, limit: l.limit}, nil
}

// conn is a connection that knows when the request being read began.
type conn struct {
	net.Conn
	limit time.Duration

	mu      sync.Mutex
	asked   time.Time // the read deadline that net/http wants; zero: none
	until   time.Time // the end of our patience; zero: no request has begun
	handled bool      // the handler has the request: it answers
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > 0 && c.until.IsZero() {
		c.until = time.Now().Add(c.limit)
		_ = c.apply() // an error means that the connection is gone, which the next read tells
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && !c.handled && !c.until.IsZero() && !time.Now().Before(c.until) {
		c.until = time.Time{}
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.Write([]byte("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
	}
	return n, err
}

// SetReadDeadline sets net/http's deadline, unless ours is earlier.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = t
	return c.apply()
}

func (c *conn) apply() error {
	t := c.asked
	if !c.until.IsZero() && (t.IsZero() || c.until.Before(t)) {
		t = c.until
	}
	return c.Conn.SetReadDeadline(t)
}

// enter says that the header is there: from now on the handler answers.
func (c *conn) enter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handled = true
}

// whole says that the request is there to its last byte: what follows takes its own time.
func (c *conn) whole() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = time.Time{}
	_ = c.apply()
}

// rest says that a request is answered: the next byte begins another.
func (c *conn) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handled, c.until = false, time.Time{}
	_ = c.apply()
}

// CloseWrite lets net/http end a connection so that the last answer still arrives.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// allThere tells the connection of a request, if it is one of ours, that the request is whole.
func allThere(ctx context.Context) {
	if c, ok := ctx.Value(connKey{}).(*conn); ok {
		c.whole()
	}
}
