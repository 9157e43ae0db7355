// Package callback brings webhooks to the page's app: signed, in order for each person as long as nothing fails, repeated
// until the app answers 200. It decides nothing about what a webhook says.
package callback

import (
	"bytes"
	"container/heap"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/onebell/onebell/services/simulator/internal/platform"
)

// Bounds. The platform gives an app 5 s to answer and gives up after an hour of failures.
const (
	workers    = 16
	answerIn   = 5 * time.Second
	firstRetry = 250 * time.Millisecond
	lastRetry  = 5 * time.Second
	giveUp     = time.Hour
)

// Capacity is how many webhooks may wait. About 1 KB each.
const Capacity = 200_000

// ErrFull is the answer when too many wait.
var ErrFull = errors.New("too many webhooks wait for an answer of 200: is the webhook's receiver running?")

// Attempt is one try to bring a webhook, for whoever watches.
type Attempt struct {
	Webhook platform.Webhook
	Number  int
	Status  int    // 0 when there was no answer
	Problem string // why there was none
	Took    time.Duration
	Given   bool // up: not tried again
}

// Queue holds what is on its way. Put and Run may be called from any goroutine.
type Queue struct {
	url    string
	secret func(page string) (string, bool)
	done   func(Attempt)
	client *http.Client
	log    *slog.Logger

	mu      sync.Mutex
	change  *sync.Cond
	lanes   map[lane]*line
	ready   []lane // lanes with something to bring and nobody bringing it
	later   delayed
	earlier chan struct{} // the head of later changed
	waiting int
	closed  bool
}

type lane struct{ page, psid string }

type line struct {
	jobs []job
	busy bool
}

type job struct {
	webhook platform.Webhook
	first   time.Time
	tries   int
	due     time.Time
}

// New makes a queue towards a URL. secret gives the app secret that signs a page's webhooks; done hears of every try.
func New(url string, secret func(page string) (string, bool), done func(Attempt), log *slog.Logger) *Queue {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = workers // the default of 2 would open a connection for nearly every webhook
	q := &Queue{
		url: url, secret: secret, done: done, log: log,
		client:  &http.Client{Transport: transport, Timeout: answerIn},
		lanes:   map[lane]*line{},
		earlier: make(chan struct{}, 1),
	}
	q.change = sync.NewCond(&q.mu)
	return q
}

// Waiting is how many webhooks are not yet answered 200.
func (q *Queue) Waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting
}

// Put takes a webhook to bring after a delay. One without delay comes after all earlier ones of its person.
func (q *Queue) Put(w platform.Webhook, delay time.Duration) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting >= Capacity {
		return ErrFull
	}
	q.waiting++
	now := time.Now()
	j := job{webhook: w, first: now, due: now.Add(delay)}
	if delay > 0 {
		q.postpone(j)
		return nil
	}
	q.enqueue(j)
	return nil
}

func (q *Queue) enqueue(j job) {
	k := lane{j.webhook.PageID, j.webhook.PSID}
	l := q.lanes[k]
	if l == nil {
		l = &line{}
		q.lanes[k] = l
	}
	l.jobs = append(l.jobs, j)
	if !l.busy && len(l.jobs) == 1 {
		q.ready = append(q.ready, k)
		q.change.Signal()
	}
}

func (q *Queue) postpone(j job) {
	heap.Push(&q.later, j)
	select {
	case q.earlier <- struct{}{}:
	default:
	}
}

// Run brings webhooks until ctx ends.
func (q *Queue) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for range workers {
		all.Go(func() { q.work(ctx) })
	}
	q.alarm(ctx)
	q.mu.Lock()
	q.closed = true
	q.change.Broadcast()
	q.mu.Unlock()
	all.Wait()
	q.client.CloseIdleConnections()
	return nil
}

// alarm moves what is due into its lane.
func (q *Queue) alarm(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.earlier:
		case <-timer.C:
		}
		q.mu.Lock()
		for len(q.later) > 0 && !time.Now().Before(q.later[0].due) {
			q.enqueue(heap.Pop(&q.later).(job))
		}
		wait := time.Hour
		if len(q.later) > 0 {
			wait = time.Until(q.later[0].due)
		}
		q.mu.Unlock()
		timer.Reset(wait)
	}
}

func (q *Queue) work(ctx context.Context) {
	for {
		k, j, ok := q.next()
		if !ok {
			return
		}
		a := q.bring(ctx, j)
		q.finish(k, j, a)
		if ctx.Err() == nil {
			q.done(a)
		}
	}
}

func (q *Queue) next() (lane, job, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.ready) == 0 && !q.closed {
		q.change.Wait()
	}
	if q.closed {
		return lane{}, job{}, false
	}
	k := q.ready[0]
	q.ready = q.ready[1:]
	l := q.lanes[k]
	l.busy = true
	j := l.jobs[0]
	l.jobs = l.jobs[1:]
	return k, j, true
}

// finish opens the lane for its next webhook. One that failed comes again by itself, so the next may overtake it: the
// platform promises no order then either.
func (q *Queue) finish(k lane, j job, a Attempt) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if a.Status == http.StatusOK || a.Given {
		q.waiting--
	} else {
		wait := min(firstRetry<<min(j.tries, 10), lastRetry)
		j.tries++
		j.due = time.Now().Add(wait)
		q.postpone(j)
	}
	l := q.lanes[k]
	l.busy = false
	if len(l.jobs) == 0 {
		delete(q.lanes, k)
		return
	}
	q.ready = append(q.ready, k)
	q.change.Signal()
}

func (q *Queue) bring(ctx context.Context, j job) Attempt {
	a := Attempt{Webhook: j.webhook, Number: j.tries + 1}
	secret, ok := q.secret(j.webhook.PageID)
	if !ok {
		a.Given, a.Problem = true, "the page is not in pages.yaml any more"
		return a
	}
	start := time.Now()
	status, err := q.post(ctx, j.webhook.Body, secret)
	a.Status, a.Took = status, time.Since(start)
	switch {
	case err != nil:
		a.Problem = err.Error()
	case status != http.StatusOK:
		a.Problem = fmt.Sprintf("answered %d", status)
	}
	if a.Status != http.StatusOK && time.Since(j.first) > giveUp {
		a.Given = true
		q.log.Error("webhook given up after an hour", "page", j.webhook.PageID, "person", j.webhook.PSID, "reason", a.Problem)
	}
	return a
}

func (q *Queue) post(ctx context.Context, body []byte, secret string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, q.url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Hub-Signature-256", Sign(body, secret))
	resp, err := q.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // drained, so that the connection is used again
	return resp.StatusCode, nil
}

// Sign is the value of X-Hub-Signature-256: HMAC-SHA256 over the raw body, lower-case hex.
func Sign(body []byte, secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// delayed is a heap by due time.
type delayed []job

func (d delayed) Len() int           { return len(d) }
func (d delayed) Less(i, k int) bool { return d[i].due.Before(d[k].due) }
func (d delayed) Swap(i, k int)      { d[i], d[k] = d[k], d[i] }

// Push is for package heap.
func (d *delayed) Push(x any) { *d = append(*d, x.(job)) }

// Pop is for package heap.
func (d *delayed) Pop() any {
	old := *d
	last := old[len(old)-1]
	*d = old[:len(old)-1]
	return last
}
