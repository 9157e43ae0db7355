// Package platform holds the rules of the Messenger platform as far as Onebell meets them: people of a page, the 24-hour
// window, one-time tokens, what a message may hold, rates and errors. The time is an argument everywhere. It does no I/O,
// starts nothing and is not safe for concurrent use: package messenger puts a lock, a clock and a file around it.
package platform

import (
	"crypto/rand"
	"encoding/hex"
	"time"
)

// Durations of the platform's rules. Sources: the platform's pages on one-time notifications and on its policy.
const (
	Window      = 24 * time.Hour       // after the last opening action of the person
	HumanWindow = 7 * 24 * time.Hour   // with the tag HUMAN_AGENT
	TokenLife   = 365 * 24 * time.Hour // "lapse within 1 year of creation"
)

// AppID is the app that all calls are said to come from.
const AppID = 900100000000311

// kept is how many entries of a conversation are remembered: a screen needs few, a load test makes many.
const kept = 200

// World is everything the platform knows.
type World struct {
	Switches Switches
	people   map[key]*Person
	order    map[string][]*Person // of each page, oldest first
	tokens   map[string]*Token
	rates    map[string]*meter
	ids      func(prefix string) string
}

type key struct{ page, psid string }

// NewWorld is an empty world.
func NewWorld(s Switches) *World {
	return &World{Switches: s, people: map[key]*Person{}, order: map[string][]*Person{}, tokens: map[string]*Token{}, rates: map[string]*meter{}, ids: randomID}
}

func randomID(prefix string) string {
	raw := make([]byte, 12)
	_, _ = rand.Read(raw) // never fails: see crypto/rand
	return prefix + hex.EncodeToString(raw)
}

// Person is somebody as one page knows them.
type Person struct {
	PageID    string    `json:"page_id"`
	PSID      string    `json:"psid"`
	Name      string    `json:"name"`
	Locale    string    `json:"locale,omitempty"`
	Blocked   bool      `json:"blocked"`
	OpenedAt  time.Time `json:"opened_at,omitzero"` // last action that opened the window
	TypedAt   time.Time `json:"-"`                  // last message typed, for HUMAN_AGENT
	CreatedAt time.Time `json:"created_at"`
	thread    []*Entry
	tokens    []*Token
}

// Open says whether the 24-hour window is open.
func (p *Person) Open(now time.Time) bool {
	return !p.OpenedAt.IsZero() && now.Before(p.OpenedAt.Add(Window))
}

// Token is a one-time token: the right to send one message.
type Token struct {
	PageID, PSID, Payload string
	IssuedAt              time.Time
	SpentAt               time.Time
	MessageID             string // of the message that spent it
}

// Usable says whether the page may still spend the token.
func (t *Token) Usable(page string, now time.Time) bool {
	return t != nil && t.PageID == page && t.SpentAt.IsZero() && now.Before(t.IssuedAt.Add(TokenLife))
}

// AddPerson makes a person, or gives the one that is there. New is true for a new one.
func (w *World) AddPerson(page, psid, name, locale string, now time.Time) (p *Person, isNew bool) {
	k := key{page, psid}
	if p, ok := w.people[k]; ok {
		return p, false
	}
	p = &Person{PageID: page, PSID: psid, Name: name, Locale: locale, CreatedAt: now}
	w.people[k] = p
	w.order[page] = append(w.order[page], p)
	return p, true
}

// Person finds a person of a page; nil when there is none.
func (w *World) Person(page, psid string) *Person { return w.people[key{page, psid}] }

// People lists up to limit of a page's people, oldest first, and says how many there are.
func (w *World) People(page string, limit int) (list []Person, total int) {
	all := w.order[page]
	list = make([]Person, 0, min(limit, len(all)))
	for _, p := range all[:min(limit, len(all))] {
		copied := *p
		copied.thread, copied.tokens = nil, nil
		list = append(list, copied)
	}
	return list, len(all)
}

// Conversation is a copy of what was said, oldest first.
func (w *World) Conversation(page, psid string) []Entry {
	p := w.Person(page, psid)
	if p == nil {
		return nil
	}
	list := make([]Entry, len(p.thread))
	for i, e := range p.thread {
		list[i] = *e
	}
	return list
}

// TokenCount says how a page's tokens stand.
type TokenCount struct {
	Usable  int `json:"usable"`
	Spent   int `json:"spent"`
	Expired int `json:"expired"`
}

// CountTokens counts a page's tokens.
func (w *World) CountTokens(page string, now time.Time) (c TokenCount) {
	for _, t := range w.tokens {
		switch {
		case t.PageID != page:
		case t.Usable(page, now):
			c.Usable++
		case t.SpentAt.IsZero():
			c.Expired++
		default:
			c.Spent++
		}
	}
	return c
}

// Asked lists the payloads for which a person's token waits to be spent.
func (w *World) Asked(page, psid string, now time.Time) []string {
	p := w.Person(page, psid)
	if p == nil {
		return nil
	}
	var payloads []string
	for _, t := range p.tokens {
		if t.Usable(page, now) {
			payloads = append(payloads, t.Payload)
		}
	}
	return payloads
}

// Restore puts a token there: a new one, or one that was issued before a restart.
func (w *World) Restore(token string, t Token) {
	w.tokens[token] = &t
	if p := w.Person(t.PageID, t.PSID); p != nil {
		p.tokens = append(p.tokens, &t)
	}
}

// RestoreSpent marks a token as spent.
func (w *World) RestoreSpent(token, messageID string, at time.Time) {
	if t := w.tokens[token]; t != nil {
		t.SpentAt, t.MessageID = at, messageID
	}
}
