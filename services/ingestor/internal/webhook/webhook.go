// Package webhook is the door at which the platform calls: verification (GET) and events (POST). It decides what is
// answered; what an element is, is said by envelope, whether a signature is good, by seal, and tray stores.
package webhook

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/onebell/onebell/pkg/fault"
	"github.com/onebell/onebell/services/ingestor/internal/envelope"
	"github.com/onebell/onebell/services/ingestor/internal/seal"
	"github.com/onebell/onebell/services/ingestor/internal/tray"
)

// Path is where the platform calls.
const Path = "/webhook"

// ReasonWrongApp is the reason of a dead letter for a body with events of a page that does not list the secret that signed.
const ReasonWrongApp = "wrong_app"

// Limits bound what a request may cost.
type Limits struct {
	Body     func() int    // largest body in bytes, asked at each request: it may depend on the server
	InFlight int64         // bytes of bodies held at the same time
	Request  time.Duration // a whole request, from its first byte
	Store    time.Duration // storing everything in it
}

// Handler answers the platform.
type Handler struct {
	Keys   func() *seal.Keys // those in force
	Tray   *tray.Tray
	Limits Limits
	Log    *slog.Logger

	held     budget
	strange  notices
	metrics  metrics
	handlers *http.ServeMux
}

// New makes a handler.
func New(keys func() *seal.Keys, t *tray.Tray, limits Limits, log *slog.Logger) *Handler {
	h := &Handler{Keys: keys, Tray: t, Limits: limits, Log: log, held: budget{limit: limits.InFlight}, metrics: newMetrics()}
	h.handlers = http.NewServeMux()
	h.handlers.HandleFunc(Path, h.webhook)
	return h
}

// ServeHTTP answers one request. A panic is answered like any failure to store: the platform repeats.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			h.Log.Error("panic while answering", "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			h.metrics.request(r.Context(), "panic", 0)
			again(w)
		}
	}()
	h.handlers.ServeHTTP(w, r)
}

func (h *Handler) webhook(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		h.verify(w, r)
	case http.MethodPost:
		h.receive(w, r)
	default:
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, "the platform calls with GET or POST", http.StatusMethodNotAllowed)
	}
}

// maxChallenge bounds what is repeated to whoever knows a verify token. The platform's is a number.
const maxChallenge = 1024

// verify answers the platform's question whether this is the callback that was registered.
func (h *Handler) verify(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	challenge := query.Get("hub.challenge")
	known := h.Keys().Verify(query.Get("hub.verify_token"))
	subscribe := subtle.ConstantTimeCompare([]byte(query.Get("hub.mode")), []byte("subscribe")) == 1
	if !known || !subscribe || challenge == "" || len(challenge) > maxChallenge {
		h.metrics.request(r.Context(), "verify_refused", 0)
		h.Log.Warn("verification refused", "token_known", known, "mode_known", subscribe, "challenge_length", len(challenge))
		http.Error(w, "no page has this verify token", http.StatusForbidden)
		return
	}
	h.metrics.request(r.Context(), "verified", 0)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write([]byte(challenge)) // nobody is left to tell when this fails
}

// answer is what became of one POST: the wide log line.
type answer struct {
	status   int
	result   string // for metrics and the log: stored, nothing, unreadable, bad_signature, too_large, too_slow, cut_off, busy, not_stored
	bytes    int
	elements int  // stored
	optins   int  // of these, one-time opt-ins
	dead     int  // dead letters
	unread   bool // the body was not read to its end
	err      error
}

func (h *Handler) receive(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	ctx, span := otel.Tracer("onebell/ingestor").Start(r.Context(), "webhook", trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindServer))
	defer span.End()

	a := h.work(ctx, r, start)

	took := time.Since(start)
	span.SetAttributes(attribute.Int("http.response.status_code", a.status), attribute.String("onebell.result", a.result))
	level := slog.LevelDebug
	if a.status == http.StatusServiceUnavailable {
		level = slog.LevelWarn
		span.SetStatus(codes.Error, a.result)
	}
	h.metrics.request(ctx, a.result, took)
	h.Log.Log(ctx, level, "webhook", "status", a.status, "result", a.result, "bytes", a.bytes, "elements", a.elements, "optins", a.optins,
		"dead", a.dead, "took", took, "trace", span.SpanContext().TraceID().String(), "err", a.err)
	if a.unread {
		w.Header().Set("Connection", "close") // else net/http reads on before it answers
	}
	switch a.status {
	case http.StatusOK:
		_, _ = w.Write([]byte("EVENT_RECEIVED"))
	case http.StatusServiceUnavailable:
		again(w)
	default:
		http.Error(w, a.result, a.status)
	}
}

// again asks the platform to repeat.
func again(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	http.Error(w, "not stored, try again", http.StatusServiceUnavailable)
}

// work goes through a request in the order of the contract: size, signature, JSON, store.
func (h *Handler) work(ctx context.Context, r *http.Request, received time.Time) answer {
	body, release, err := h.read(r)
	defer release()
	a := answer{bytes: len(body), unread: err != nil, err: err}
	if err != nil {
		a.status, a.result = refusal(err)
		return a
	}
	allThere(ctx)
	keys := h.Keys()
	match, ok := keys.Check(r.Header.Values(seal.Header), body)
	if !ok {
		a.status, a.result = http.StatusForbidden, "bad_signature"
		return a
	}
	h.metrics.signed(ctx, match)

	// The work is finished also when whoever asked has gone: what is stored need not come again.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.Limits.Store)
	defer cancel()
	elements, unread := envelope.Read(body)
	elements, foreign := h.own(ctx, keys, match, elements)
	if err := h.Tray.Store(ctx, elements, received); err != nil {
		a.status, a.result, a.err = http.StatusServiceUnavailable, "not_stored", err
		return a
	}
	for _, problem := range []error{unread, foreign} {
		if problem == nil {
			continue
		}
		if err := h.bury(ctx, body, problem, received); err != nil {
			a.status, a.result, a.err = http.StatusServiceUnavailable, "not_stored", err
			return a
		}
		a.dead++
		a.err = problem
	}
	a.status, a.elements = http.StatusOK, len(elements)
	switch {
	case a.dead > 0:
		a.result = "unreadable"
		if foreign != nil {
			a.result = ReasonWrongApp
		}
	case a.elements == 0:
		a.result = "nothing"
	default:
		a.result = "stored"
	}
	a.optins = h.metrics.stored(ctx, elements)
	return a
}

// own leaves out the elements of pages that do not list the secret that signed; the error names one such page. Pages that
// are not in pages.yaml are told to operators.
func (h *Handler) own(ctx context.Context, keys *seal.Keys, match seal.Match, elements []envelope.Element) ([]envelope.Element, error) {
	var own []envelope.Element
	var foreign error
	for _, e := range elements {
		if !keys.MaySign(match, e.Page) {
			if foreign == nil {
				foreign = fault.New(fault.Invalid, ReasonWrongApp, fmt.Errorf("page %s does not list the app secret that signed (app_secrets[%d] of page %s)", e.Page, match.Index, match.Page))
			}
			continue
		}
		if !keys.Knows(e.Page) {
			h.metrics.unknownPage.Add(ctx, 1)
			if h.strange.due(e.Page, time.Now()) {
				h.Log.Warn("events of a page that is not in pages.yaml are stored under its id", "page", e.Page)
			}
		}
		own = append(own, e)
	}
	return own, foreign
}

func (h *Handler) bury(ctx context.Context, body []byte, problem error, received time.Time) error {
	reason := fault.Of(problem).Reason
	if err := h.Tray.Bury(ctx, body, reason, problem.Error(), received); err != nil {
		return err
	}
	h.metrics.buried(ctx, reason)
	h.Log.Warn("webhook body kept in the dead letters", "reason", reason, "bytes", len(body), "err", problem)
	return nil
}

// refusal is the answer to a body that was not read.
func refusal(err error) (status int, result string) {
	switch {
	case errors.Is(err, errTooLarge):
		return http.StatusRequestEntityTooLarge, "too_large"
	case errors.Is(err, errTooSlow):
		return http.StatusRequestTimeout, "too_slow"
	case errors.Is(err, errBusy):
		return http.StatusServiceUnavailable, "busy"
	}
	return http.StatusBadRequest, "cut_off"
}
