package intake

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	inventoryv1 "github.com/onebell/onebell/proto/onebell/inventory/v1"
	"github.com/onebell/onebell/services/alert/internal/event"
)

// maxBody bounds a request: about ten thousand events.
const maxBody = 4 << 20

// answer is what a publisher is told.
type answer struct {
	Accepted int         `json:"accepted"` // events stored now or known already
	Rejected []rejection `json:"rejected,omitempty"`
}

type rejection struct {
	Index  int    `json:"index"` // in the array, 0 for a single event
	Path   string `json:"path"`  // like $[1].stock.available
	Reason string `json:"reason"`
}

// ServeHTTP answers POST /v1/events: one event, or a JSON array of them. 202 once all are stored; 400 when some cannot be
// read, the others being stored; 413 over 4 MiB; 503 while they cannot be stored: the same request again stores the rest once.
func (in Intake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx := otel.GetTextMapPropagator().Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, span := otel.Tracer("onebell/alert").Start(ctx, "POST /v1/events", trace.WithSpanKind(trace.SpanKindServer))
	defer span.End()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		tooLong := (*http.MaxBytesError)(nil)
		switch {
		case errors.As(err, &tooLong):
			http.Error(w, fmt.Sprintf("the body is over %d bytes: send fewer events at once", maxBody), http.StatusRequestEntityTooLarge)
		case errors.Is(err, os.ErrDeadlineExceeded):
			http.Error(w, "the body did not come in time", http.StatusRequestTimeout)
		default: // cut short or badly chunked; without an answer the server would say 200
			http.Error(w, "the body cannot be read to its end", http.StatusBadRequest)
		}
		return
	}
	events, rejected := read(r.Header.Get(event.ContentType), body, time.Now())
	refused.Add(ctx, int64(len(rejected)), label("door", "http"))
	stored, err := in.store(ctx, events)
	if err != nil {
		in.Log.Warn("events refused, they cannot be stored", "events", len(events), "stored", stored, "err", err)
		w.Header().Set("Retry-After", "1")
		reply(w, http.StatusServiceUnavailable, answer{stored, rejected})
		return
	}
	if len(rejected) > 0 {
		reply(w, http.StatusBadRequest, answer{stored, rejected})
		return
	}
	reply(w, http.StatusAccepted, answer{Accepted: stored})
}

// read reads a body; each element that cannot be used is rejected by itself.
func read(contentType string, body []byte, now time.Time) (events []*inventoryv1.Event, rejected []rejection) {
	one := func(index int, root string, body []byte) {
		e, problem := event.Read(contentType, body, now)
		if problem != nil {
			rejected = append(rejected, rejection{index, problem.At(root), problem.Reason})
			return
		}
		events = append(events, e)
	}
	if event.IsProtobuf(contentType) || !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("[")) {
		one(0, "$", body)
		return events, rejected
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(body, &elements); err != nil {
		return nil, []rejection{{0, "$", "not JSON"}}
	}
	for i, element := range elements {
		one(i, fmt.Sprintf("$[%d]", i), element)
	}
	return events, rejected
}

func reply(w http.ResponseWriter, status int, a answer) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(a) // the publisher went away: the events are stored all the same
}
