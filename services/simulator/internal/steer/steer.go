// Package steer is the JSON API under /sim/v1/ by which tests and the phone's page steer the platform: people and what
// they do, the clock, faults, switches, the journal, and the demo shop's desk. It decides nothing.
package steer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/onebell/onebell/pkg/fault"
	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/services/simulator/internal/callback"
	"github.com/onebell/onebell/services/simulator/internal/messenger"
	"github.com/onebell/onebell/services/simulator/internal/platform"
	"github.com/onebell/onebell/services/simulator/internal/shop"
)

// Bounds of what may be asked.
const (
	maxBody    = 64 << 10
	maxText    = 2000
	maxName    = 80
	maxID      = 64
	maxOptIns  = 10_000
	maxAdvance = 2 * 365 * 24 * time.Hour
	maxLines   = 10_000
)

// API serves /sim/v1/.
type API struct {
	Messenger *messenger.Messenger
	Desk      *shop.Desk
}

// Handler serves the routes.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, serve := range a.Routes() {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			result, err := serve(r)
			reply(w, result, err)
		})
	}
	mux.HandleFunc("/sim/", func(w http.ResponseWriter, r *http.Request) {
		reply(w, nil, fault.New(fault.NotFound, "route", fmt.Errorf("%s %s is no route: see the simulator's README", r.Method, r.URL.Path)))
	})
	return mux
}

// Routes lists everything there is, so that a test can walk it.
func (a *API) Routes() map[string]func(*http.Request) (any, error) {
	return map[string]func(*http.Request) (any, error){
		"GET /sim/v1/people":                     a.people,
		"POST /sim/v1/people":                    a.addPerson,
		"GET /sim/v1/people/{psid}":              a.person,
		"GET /sim/v1/people/{psid}/conversation": a.conversation,
		"POST /sim/v1/people/{psid}/messages":    a.typed,
		"POST /sim/v1/people/{psid}/postbacks":   a.postback,
		"POST /sim/v1/people/{psid}/taps":        a.tap,
		"POST /sim/v1/people/{psid}/reads":       a.read,
		"POST /sim/v1/people/{psid}/block":       a.block,
		"POST /sim/v1/optins":                    a.optIns,
		"GET /sim/v1/tokens":                     a.tokens,
		"GET /sim/v1/clock":                      a.clock,
		"POST /sim/v1/clock/advance":             a.advance,
		"GET /sim/v1/faults":                     a.faults,
		"PUT /sim/v1/faults":                     a.setFaults,
		"DELETE /sim/v1/faults":                  a.clearFaults,
		"GET /sim/v1/switches":                   a.switches,
		"PUT /sim/v1/switches":                   a.setSwitches,
		"GET /sim/v1/journal":                    a.journal,
		"GET /sim/v1/shop":                       a.shop,
		"POST /sim/v1/stock":                     a.stock,
		"POST /sim/v1/price":                     a.price,
		"POST /sim/v1/sale":                      a.sale,
	}
}

func reply(w http.ResponseWriter, result any, err error) {
	status := http.StatusOK
	if err != nil {
		status = statusOf(err)
		result = map[string]string{"error": err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(result) // the client went away: nobody to tell
}

func statusOf(err error) int {
	switch {
	case errors.Is(err, platform.ErrNoPerson), errors.Is(err, platform.ErrNoCard):
		return http.StatusNotFound
	case errors.Is(err, platform.ErrTapped):
		return http.StatusConflict
	case errors.Is(err, callback.ErrFull):
		return http.StatusServiceUnavailable
	}
	switch fault.Of(err).Kind {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Unavailable:
		return http.StatusBadGateway
	case fault.Denied:
		return http.StatusForbidden
	case fault.Conflict:
		return http.StatusConflict
	case fault.Internal:
	}
	return http.StatusInternalServerError
}

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, "bad_request", fmt.Errorf(format, args...))
}

// body reads the JSON object of a request; every name in it must be known. An empty body stands for {}.
func body[T any](r *http.Request) (T, error) {
	var v T
	content, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case err != nil:
		return v, invalid("the body cannot be read: %w", err)
	case len(content) > maxBody:
		return v, invalid("the body is larger than %d bytes", maxBody)
	case len(content) == 0:
		return v, nil
	}
	dec := json.NewDecoder(strings.NewReader(string(content)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return v, invalid("the body is not the expected JSON object: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return v, invalid("the body holds more than one JSON object")
	}
	return v, nil
}

// page finds the page meant: by id, else the first of the file.
func (a *API) page(id string) (pages.Page, error) {
	all := a.Messenger.Pages()
	if id == "" {
		if len(all.Pages) == 0 {
			return pages.Page{}, fault.New(fault.NotFound, "no_page", errors.New("pages.yaml names no page"))
		}
		return all.Pages[0], nil
	}
	p, ok := all.Page(id)
	if !ok {
		return pages.Page{}, fault.New(fault.NotFound, "no_page", fmt.Errorf("page_id %q is not in pages.yaml", id))
	}
	return p, nil
}

func (a *API) asked(r *http.Request) (page pages.Page, psid string, err error) {
	page, err = a.page(r.URL.Query().Get("page_id"))
	return page, r.PathValue("psid"), err
}

// text checks a text that a person types or that names something.
func text(name, s string, least, most int) error {
	n := utf8.RuneCountInString(s)
	if n < least || n > most {
		return invalid("%s has %d characters: expected %d to %d", name, n, least, most)
	}
	return nil
}

func number(r *http.Request, name string, fallback, least, most int64) (int64, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return fallback, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < least || n > most {
		return 0, invalid("%s is %q: expected a number from %d to %d", name, s, least, most)
	}
	return n, nil
}
