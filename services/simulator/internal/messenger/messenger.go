// Package messenger is the stand-in platform as it runs: the rules of package platform with a lock, a clock that can be
// turned forward, a memory over restarts, a journal, and webhooks going out. It speaks no HTTP of its own.
package messenger

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/services/simulator/internal/callback"
	"github.com/onebell/onebell/services/simulator/internal/memory"
	"github.com/onebell/onebell/services/simulator/internal/platform"
)

// Options of a platform.
type Options struct {
	Pages      func() pages.File
	WebhookURL string
	Switches   platform.Switches
	Limits     platform.Limits
	Memory     *memory.File
	Log        *slog.Logger
}

// Messenger is the running platform. Safe for use from many goroutines.
type Messenger struct {
	Hub
	pages   func() pages.File
	limits  platform.Limits
	log     *slog.Logger
	journal journal
	queue   *callback.Queue
	answer  func(Act)
	calls   metric.Int64Counter
	hooks   metric.Int64Counter

	mu     sync.Mutex // guards what follows
	world  *platform.World
	memory *memory.File
	offset time.Duration // of the platform's clock before the machine's
	faults Faults
	fields map[string][]string // page → fields its app subscribed to; absent: all
}

// Act is something that a person did, for the shop's bot.
type Act struct {
	Page    pages.Page
	PSID    string
	Text    string
	Payload string // of a quick reply or postback
}

// New makes a platform and puts back what it remembers.
func New(o Options, remembered []memory.Record) *Messenger {
	meter := otel.Meter("onebell/simulator")
	m := &Messenger{
		pages: o.Pages, limits: o.Limits, log: o.Log, memory: o.Memory,
		world: platform.NewWorld(o.Switches), fields: map[string][]string{}, answer: func(Act) {},
	}
	// A counter that cannot be made is a nil-safe no-op of the API: the names below are constants that a test has seen.
	m.calls, _ = meter.Int64Counter("onebell_simulator_sends", metric.WithDescription("calls of the Send API, by code of the answer (0: done)"))
	m.hooks, _ = meter.Int64Counter("onebell_simulator_webhooks", metric.WithDescription("tries to bring a webhook, by field and HTTP status"))
	m.queue = callback.New(o.WebhookURL, m.secret, m.attempted, o.Log)
	m.restore(remembered)
	return m
}

// OnAct sets who answers people. It must be set before anybody acts.
func (m *Messenger) OnAct(answer func(Act)) { m.answer = answer }

// Run brings webhooks until ctx ends.
func (m *Messenger) Run(ctx context.Context) error { return m.queue.Run(ctx) }

// restore replays the memory. Opt-ins whose webhook was never answered go out again.
func (m *Messenger) restore(records []memory.Record) {
	waiting := map[string]platform.Token{}
	var order []string
	for _, r := range records {
		switch r.What {
		case memory.Person:
			m.world.AddPerson(r.PageID, r.PSID, r.Name, r.Locale, r.At)
		case memory.Opened:
			if p := m.world.Person(r.PageID, r.PSID); p != nil {
				p.OpenedAt = r.At
			}
		case memory.Issued:
			t := platform.Token{PageID: r.PageID, PSID: r.PSID, Payload: r.Payload, IssuedAt: r.At}
			m.world.Restore(r.Token, t)
			waiting[r.Token] = t
			order = append(order, r.Token)
		case memory.Told:
			delete(waiting, r.Token)
		case memory.Spent:
			m.world.RestoreSpent(r.Token, r.MessageID, r.At)
		case memory.Advance:
			m.offset = r.Offset
		}
	}
	for _, token := range order {
		if t, ok := waiting[token]; ok {
			_ = m.queue.Put(platform.OptinHook(token, t, t.IssuedAt), 0) // full: then the newest are told at the next start
		}
	}
}

func (m *Messenger) secret(page string) (string, bool) {
	p, ok := m.pages().Page(page)
	if !ok || len(p.AppSecrets) == 0 {
		return "", false
	}
	return p.AppSecrets[0].Reveal(), true
}

func (m *Messenger) now() time.Time { return time.Now().Add(m.offset).UTC() }

// Now is the platform's time.
func (m *Messenger) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now()
}

// Advance turns the platform's clock forward.
func (m *Messenger) Advance(by time.Duration) (time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.memory.Append(memory.Record{What: memory.Advance, Offset: m.offset + by}); err != nil {
		return time.Time{}, err
	}
	m.offset += by
	m.Tell("people", "log")
	return m.now(), nil
}

// Pages is the file in force.
func (m *Messenger) Pages() pages.File { return m.pages() }

// attempted writes down what became of a try to bring a webhook.
func (m *Messenger) attempted(a callback.Attempt) {
	m.hooks.Add(context.Background(), 1, metric.WithAttributes(attribute.String("field", a.Webhook.Field), attribute.Int("status", a.Status)))
	if a.Status == 200 && a.Webhook.Token != "" {
		m.mu.Lock()
		err := m.memory.Append(memory.Record{What: memory.Told, Token: a.Webhook.Token})
		m.mu.Unlock()
		if err != nil { // the app hears of it once more after a restart
			m.log.Warn("not written down", "page", a.Webhook.PageID, "err", err)
		}
	}
	m.journal.add(Line{
		At: time.Now().UTC().Add(-a.Took), What: WebhookOut, PageID: a.Webhook.PageID, PSID: a.Webhook.PSID, Detail: a.Webhook.Field,
		Attempt: a.Number, Status: a.Status, Problem: a.Problem, Took: ms(a.Took), Body: a.Webhook.Body,
	})
	m.Tell("log")
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// publish sends webhooks out as far as the page's app wants them. Called with the lock held, so that a person's webhooks
// keep the order of what they tell of.
func (m *Messenger) publish(hooks ...platform.Webhook) error {
	for _, h := range hooks {
		if wanted, ok := m.fields[h.PageID]; ok && !slices.Contains(wanted, h.Field) {
			continue
		}
		for _, delay := range m.faults.Webhooks.delays() {
			if err := m.queue.Put(h, delay); err != nil {
				return err
			}
		}
	}
	return nil
}

// Call is a call of the Send API.
type Call struct {
	Page    pages.Page
	Send    platform.Send
	Body    json.RawMessage // for the journal, without tokens of the page
	By      string          // "app" or "shop"
	Proof   bool
	Trace   string // header traceparent
	Arrived time.Time
	Play    Play
}

// Result is the answer to a call: a message id, or the error.
type Result struct {
	RecipientID string
	MessageID   string
	Err         *platform.Error
	Usage       platform.Usage
}

// Send does what a call asks, as far as the rules allow.
func (m *Messenger) Send(c Call) Result {
	m.mu.Lock()
	result, psid := m.send(c)
	m.mu.Unlock()

	line := Line{
		At: c.Arrived.UTC(), What: SendIn, PageID: c.Page.ID, PSID: psid, By: c.By, Detail: "id", Status: 200,
		MessageID: result.MessageID, Fault: c.Play.Before + c.Play.After, Proof: c.Proof, Trace: c.Trace, Took: ms(time.Since(c.Arrived)), Body: c.Body,
	}
	if c.Send.Recipient.Token != "" {
		line.Detail = "token"
	}
	if result.Err != nil {
		line.Status, line.Code, line.Subcode, line.Problem = result.Err.Status, result.Err.Code, result.Err.Subcode, result.Err.Message
	}
	if c.Play.Before == "cut" || c.Play.After == "timeout" || c.Play.After == "reset" {
		line.Status = 0
	}
	m.journal.add(line)
	m.calls.Add(context.Background(), 1, metric.WithAttributes(attribute.String("by", c.By), attribute.Int("code", line.Code)))
	m.Tell("log", Thread(c.Page.ID, psid))
	return result
}

func (m *Messenger) send(c Call) (Result, string) {
	now := m.now()
	var usage platform.Usage
	psid := c.Send.Recipient.ID
	if c.Play.Before == "cut" {
		return Result{}, psid
	}
	if c.By != "shop" { // the demo shop's own bot does not use up the app's rate
		var err *platform.Error
		if usage, err = m.world.Count(c.Page.ID, c.Send, m.limits, now); err != nil {
			return Result{Err: err, Usage: usage}, psid
		}
	}
	if c.Play.Error != nil {
		usage.Minutes = c.Play.Usage.Minutes
		return Result{Err: c.Play.Error, Usage: usage}, psid
	}
	plan, burn, refused := m.world.Judge(c.Page.ID, c.Send, now)
	if refused != nil && !burn {
		return Result{Err: refused, Usage: usage}, psid
	}
	token := plan.Token
	if burn {
		token = c.Send.Recipient.Token
	}
	if token != "" {
		// Written down first: a restart must never accept the token again.
		if err := m.memory.Append(memory.Record{What: memory.Spent, Token: token, MessageID: plan.MessageID, At: now}); err != nil {
			m.log.Error("a spent token could not be written down", "page", c.Page.ID, "err", err)
			return Result{Err: platform.Documented(platform.ErrorCode{Code: 2}), Usage: usage}, psid
		}
	}
	if burn {
		m.world.RestoreSpent(token, "", now)
		return Result{Err: refused, Usage: usage}, psid
	}
	if err := m.publish(m.world.Commit(plan, now)...); err != nil {
		m.log.Warn("a send's webhooks are dropped", "page", c.Page.ID, "err", err)
	}
	result := Result{RecipientID: plan.PSID, MessageID: plan.MessageID, Usage: usage}
	if plan.Token != "" && m.world.Switches.HideRecipient {
		result.RecipientID = ""
	}
	return result, plan.PSID
}

// Thread is the name under which the hub tells of a conversation.
func Thread(page, psid string) string { return fmt.Sprintf("thread:%s:%s", page, psid) }
