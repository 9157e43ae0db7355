package platform

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Who an entry of a conversation is from.
const (
	FromShop   = "shop"
	FromPerson = "person"
)

// Entry is one thing said in a conversation.
type Entry struct {
	MessageID string    `json:"message_id"`
	From      string    `json:"from"`
	At        time.Time `json:"at"`
	Message
	Payload   string `json:"payload,omitempty"`  // of a person's quick reply or postback
	ByToken   bool   `json:"by_token,omitempty"` // a one-time token was spent on it
	Tapped    bool   `json:"tapped,omitempty"`   // a one-time request whose button was tapped
	Read      bool   `json:"read,omitempty"`
	Delivered bool   `json:"delivered,omitempty"`
}

// Card says whether the entry is a one-time request.
func (e Entry) Card() bool {
	return e.Attachment != nil && e.Attachment.Payload.TemplateType == "one_time_notif_req"
}

// Errors of what a person can try.
var (
	ErrNoPerson = errors.New("no such person on this page")
	ErrNoCard   = errors.New("no such card in the conversation")
	ErrTapped   = errors.New("the card was tapped already: it gives one token")
)

func (p *Person) say(e *Entry) {
	p.thread = append(p.thread, e)
	if len(p.thread) > kept {
		p.thread = append([]*Entry(nil), p.thread[len(p.thread)-kept:]...)
	}
}

// Type is a person's message; quickReply is the payload of the answer tapped, if one was. It opens the window.
func (w *World) Type(page, psid, text, quickReply string, now time.Time) (Webhook, error) {
	p := w.Person(page, psid)
	if p == nil {
		return Webhook{}, ErrNoPerson
	}
	e := &Entry{MessageID: w.ids("m_sim-"), From: FromPerson, At: now, Message: Message{Text: text}, Payload: quickReply, Delivered: true}
	p.say(e)
	p.OpenedAt, p.TypedAt = now, now
	return messageHook(page, psid, e, now), nil
}

// Postback is a person's tap on a button with a payload. It opens the window.
func (w *World) Postback(page, psid, title, payload string, now time.Time) (Webhook, error) {
	p := w.Person(page, psid)
	if p == nil {
		return Webhook{}, ErrNoPerson
	}
	e := &Entry{MessageID: w.ids("m_sim-"), From: FromPerson, At: now, Message: Message{Text: title}, Payload: payload, Delivered: true}
	p.say(e)
	p.OpenedAt = now
	return postbackHook(page, psid, e, now), nil
}

// FindCard finds the one-time request that a tap means: by message id, else the newest with the payload that was not
// tapped yet.
func (w *World) FindCard(page, psid, messageID, payload string) (*Entry, error) {
	p := w.Person(page, psid)
	if p == nil {
		return nil, ErrNoPerson
	}
	var tapped *Entry
	for _, e := range slices.Backward(p.thread) {
		switch {
		case !e.Card():
		case messageID != "" && e.MessageID != messageID:
		case messageID == "" && e.Attachment.Payload.Payload != payload:
		case e.Tapped && !w.Switches.TapTwice:
			tapped = e
		default:
			return e, nil
		}
	}
	if tapped != nil {
		return nil, ErrTapped
	}
	return nil, fmt.Errorf("%w: message id %q, payload %q", ErrNoCard, messageID, payload)
}

// NewToken is a token for what a card asks; nothing is changed yet, so that it can be written down first.
func (w *World) NewToken(page, psid, payload string, now time.Time) (string, Token) {
	return w.ids("otn-sim-"), Token{PageID: page, PSID: psid, Payload: payload, IssuedAt: now}
}

// Tap gives the page a token that was written down. card may be nil: a tap on a card that the conversation does not hold.
func (w *World) Tap(card *Entry, token string, t Token) Webhook {
	w.Restore(token, t)
	if card != nil {
		card.Tapped = true
	}
	if p := w.Person(t.PageID, t.PSID); p != nil && w.Switches.TapOpensWindow {
		p.OpenedAt = t.IssuedAt
	}
	return OptinHook(token, t, t.IssuedAt)
}

// Read marks everything from the shop as read. False when there was nothing new.
func (w *World) Read(page, psid string, now time.Time) (Webhook, bool, error) {
	p := w.Person(page, psid)
	if p == nil {
		return Webhook{}, false, ErrNoPerson
	}
	var newest time.Time
	silent := true
	for _, e := range p.thread {
		if e.From == FromShop && !e.Read {
			e.Read, newest = true, e.At
			silent = silent && e.ByToken && !w.Switches.EchoTokenSends
		}
	}
	if newest.IsZero() || silent {
		return Webhook{}, false, nil
	}
	return readHook(page, psid, newest, now), true, nil
}

// Plan is a send that the rules allow and that is not done yet.
type Plan struct {
	PageID, PSID string
	MessageID    string
	Token        string // spent by it, if any
	send         Send
}

// Judge decides on a send and changes nothing. Burn is true when the refused send's token is spent all the same.
func (w *World) Judge(page string, s Send, now time.Time) (plan Plan, burn bool, err *Error) {
	if err := s.check(w.Switches); err != nil {
		return Plan{}, false, err
	}
	psid := s.Recipient.ID
	if s.Recipient.Token != "" {
		t := w.tokens[s.Recipient.Token]
		if !t.Usable(page, now) {
			return Plan{}, false, Documented(w.Switches.SpentToken)
		}
		psid = t.PSID
	}
	p := w.Person(page, psid)
	switch {
	case p == nil:
		return Plan{}, false, Documented(noPerson)
	case p.Blocked:
		return Plan{}, s.Recipient.Token != "" && w.Switches.FailureSpends, Documented(blocked)
	case s.Recipient.Token == "" && !p.Open(now) && !humanMay(s, p, now):
		return Plan{}, false, Documented(outside)
	}
	return Plan{PageID: page, PSID: psid, MessageID: w.ids("m_sim-"), Token: s.Recipient.Token, send: s}, false, nil
}

func humanMay(s Send, p *Person, now time.Time) bool {
	return s.Type == "MESSAGE_TAG" && s.Tag == "HUMAN_AGENT" && !p.TypedAt.IsZero() && now.Before(p.TypedAt.Add(HumanWindow))
}

// Commit does what Judge allowed, at the same time and with nothing in between, and gives the webhooks it makes.
func (w *World) Commit(plan Plan, now time.Time) []Webhook {
	p := w.Person(plan.PageID, plan.PSID)
	if p == nil || plan.send.Message == nil { // a typing sign leaves no trace
		return nil
	}
	if plan.Token != "" {
		w.RestoreSpent(plan.Token, plan.MessageID, now)
	}
	e := &Entry{MessageID: plan.MessageID, From: FromShop, At: now, Message: *plan.send.Message, ByToken: plan.Token != "", Delivered: true}
	p.say(e)
	if e.ByToken && !w.Switches.EchoTokenSends {
		return nil
	}
	return []Webhook{echoHook(plan.PageID, plan.PSID, e, now), deliveryHook(plan.PageID, plan.PSID, e, now)}
}
