package callback_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/onebell/onebell/pkg/testkit"
	"github.com/onebell/onebell/services/simulator/internal/callback"
	"github.com/onebell/onebell/services/simulator/internal/platform"
)

// app receives webhooks; refuse says which to answer with 503, by body and how often it came.
type app struct {
	mu     sync.Mutex
	bodies []string // answered 200, in order
	tries  map[string]int
	refuse func(body string, try int) bool
	bad    []string // signatures that do not fit
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	defer a.mu.Unlock()
	if got := r.Header.Get("X-Hub-Signature-256"); got != callback.Sign(body, "secret-1") {
		a.bad = append(a.bad, got)
	}
	a.tries[string(body)]++
	if a.refuse != nil && a.refuse(string(body), a.tries[string(body)]) {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	a.bodies = append(a.bodies, string(body))
}

func (a *app) got() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.bodies)
}

func start(t *testing.T, a *app) *callback.Queue {
	t.Helper()
	a.tries = map[string]int{}
	srv := httptest.NewServer(a)
	t.Cleanup(srv.Close)
	secret := func(page string) (string, bool) { return "secret-" + page, page == "1" }
	q := callback.New(srv.URL, secret, func(callback.Attempt) {}, testkit.Log(t))
	testkit.Run(t, "queue", q.Run)
	return q
}

func put(t *testing.T, q *callback.Queue, page, psid, body string, delay time.Duration) {
	t.Helper()
	if err := q.Put(platform.Webhook{PageID: page, PSID: psid, Body: []byte(body)}, delay); err != nil {
		t.Fatal(err)
	}
}

func TestEachPersonsWebhooksComeInOrderAndSigned(t *testing.T) {
	t.Parallel()
	a := &app{}
	q := start(t, a)
	const people, each = 20, 25
	for n := range each {
		for p := range people {
			put(t, q, "1", fmt.Sprint(p), fmt.Sprintf("%d:%03d", p, n), 0)
		}
	}
	testkit.Eventually(t, "all brought", func() bool { return q.Waiting() == 0 })
	of := map[string][]string{}
	for _, body := range a.got() {
		person, _, _ := strings.Cut(body, ":")
		of[person] = append(of[person], body)
	}
	for person, bodies := range of {
		if len(bodies) != each || !slices.IsSorted(bodies) {
			t.Errorf("person %s: %v", person, bodies)
		}
	}
	if len(of) != people || len(a.bad) > 0 {
		t.Errorf("%d people, wrong signatures: %v", len(of), a.bad)
	}
}

func TestAWebhookComesAgainUntilItIsAnswered200(t *testing.T) {
	t.Parallel()
	a := &app{refuse: func(body string, try int) bool { return body == "first" && try < 3 }}
	q := start(t, a)
	put(t, q, "1", "ana", "first", 0)
	put(t, q, "1", "ana", "second", 0)
	testkit.Eventually(t, "both brought", func() bool { return q.Waiting() == 0 })
	if got := a.got(); !slices.Equal(got, []string{"second", "first"}) {
		t.Errorf("brought %v: what fails does not hold up what comes after", got)
	}
	if a.tries["first"] != 3 || a.tries["second"] != 1 {
		t.Errorf("tries: %v", a.tries)
	}
}

func TestALateWebhookAndAnUnknownPage(t *testing.T) {
	t.Parallel()
	a := &app{}
	q := start(t, a)
	put(t, q, "1", "ana", "late", 200*time.Millisecond)
	put(t, q, "1", "ana", "early", 0)
	put(t, q, "9", "ana", "of a page that is gone", 0)
	testkit.Eventually(t, "all gone", func() bool { return q.Waiting() == 0 })
	if got := a.got(); !slices.Equal(got, []string{"early", "late"}) {
		t.Errorf("brought %v", got)
	}
}
