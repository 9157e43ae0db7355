package steer

import (
	"net/http"
	"time"

	"github.com/onebell/onebell/services/simulator/internal/platform"
	"github.com/onebell/onebell/services/simulator/internal/shop"
)

// view is a person as the API shows them.
type view struct {
	platform.Person
	WindowOpen bool `json:"window_open"`
}

func (a *API) view(p platform.Person) view { return view{p, p.Open(a.Messenger.Now())} }

func (a *API) people(r *http.Request) (any, error) {
	page, err := a.page(r.URL.Query().Get("page_id"))
	if err != nil {
		return nil, err
	}
	limit, err := number(r, "limit", 1000, 1, maxLines)
	if err != nil {
		return nil, err
	}
	people, total := a.Messenger.People(page.ID, int(limit))
	list := make([]view, len(people))
	for i, p := range people {
		list[i] = a.view(p)
	}
	return map[string]any{"people": list, "total": total}, nil
}

func (a *API) addPerson(r *http.Request) (any, error) {
	in, err := body[struct {
		PageID string `json:"page_id"`
		PSID   string `json:"psid"`
		Name   string `json:"name"`
		Locale string `json:"locale"`
		Start  bool   `json:"start"` // the person opens the chat: a GET_STARTED postback
	}](r)
	if err != nil {
		return nil, err
	}
	page, err := a.page(in.PageID)
	if err != nil {
		return nil, err
	}
	for _, problem := range []error{text("psid", in.PSID, 0, maxID), text("name", in.Name, 0, maxName), text("locale", in.Locale, 0, maxName)} {
		if problem != nil {
			return nil, problem
		}
	}
	p, isNew, err := a.Messenger.AddPerson(page.ID, in.PSID, in.Name, in.Locale)
	if err == nil && isNew && in.Start {
		if err = a.Messenger.Postback(page, p.PSID, "Get started", shop.Start); err == nil {
			p, err = a.Messenger.Person(page.ID, p.PSID)
		}
	}
	if err != nil {
		return nil, err
	}
	return a.view(p), nil
}

func (a *API) person(r *http.Request) (any, error) {
	page, psid, err := a.asked(r)
	if err != nil {
		return nil, err
	}
	p, err := a.Messenger.Person(page.ID, psid)
	return a.view(p), err
}

func (a *API) conversation(r *http.Request) (any, error) {
	page, psid, err := a.asked(r)
	if err != nil {
		return nil, err
	}
	if _, err := a.Messenger.Person(page.ID, psid); err != nil {
		return nil, err
	}
	return map[string]any{"conversation": a.Messenger.Conversation(page.ID, psid)}, nil
}

func (a *API) typed(r *http.Request) (any, error) {
	in, err := body[struct {
		Text       string `json:"text"`
		QuickReply string `json:"quick_reply"` // payload of the answer tapped
	}](r)
	if err != nil {
		return nil, err
	}
	if err := text("text", in.Text, 1, maxText); err != nil {
		return nil, err
	}
	if err := text("quick_reply", in.QuickReply, 0, 1000); err != nil {
		return nil, err
	}
	page, psid, err := a.asked(r)
	if err != nil {
		return nil, err
	}
	return done, a.Messenger.Type(page, psid, in.Text, in.QuickReply)
}

var done = map[string]bool{"done": true}

func (a *API) postback(r *http.Request) (any, error) {
	in, err := body[struct {
		Title   string `json:"title"`
		Payload string `json:"payload"`
	}](r)
	if err != nil {
		return nil, err
	}
	if err := text("payload", in.Payload, 1, 1000); err != nil {
		return nil, err
	}
	if err := text("title", in.Title, 1, maxName); err != nil {
		return nil, err
	}
	page, psid, err := a.asked(r)
	if err != nil {
		return nil, err
	}
	return done, a.Messenger.Postback(page, psid, in.Title, in.Payload)
}

func (a *API) tap(r *http.Request) (any, error) {
	in, err := body[struct {
		MessageID   string `json:"message_id"` // of the card, or
		Payload     string `json:"payload"`    // what it asks
		WithoutCard bool   `json:"without_card"`
	}](r)
	if err != nil {
		return nil, err
	}
	if (in.MessageID == "") == (in.Payload == "") || in.WithoutCard && in.Payload == "" {
		return nil, invalid("expected message_id of a card, or payload (with without_card: of a card that the conversation does not hold)")
	}
	if err := text("payload", in.Payload, 0, 1000); err != nil {
		return nil, err
	}
	page, psid, err := a.asked(r)
	if err != nil {
		return nil, err
	}
	tap := func() (string, error) { return a.Messenger.Tap(page, psid, in.MessageID, in.Payload) }
	if in.WithoutCard {
		tap = func() (string, error) { return a.Messenger.OptIn(page, psid, in.Payload) }
	}
	token, err := tap()
	return map[string]string{"one_time_notif_token": token}, err
}

func (a *API) read(r *http.Request) (any, error) {
	if _, err := body[struct{}](r); err != nil {
		return nil, err
	}
	page, psid, err := a.asked(r)
	if err != nil {
		return nil, err
	}
	return done, a.Messenger.Read(page.ID, psid)
}

func (a *API) block(r *http.Request) (any, error) {
	in, err := body[struct {
		Blocked *bool `json:"blocked"`
	}](r)
	if err != nil {
		return nil, err
	}
	if in.Blocked == nil {
		return nil, invalid("blocked is missing: expected true or false")
	}
	page, psid, err := a.asked(r)
	if err != nil {
		return nil, err
	}
	p, err := a.Messenger.Block(page.ID, psid, *in.Blocked)
	return a.view(p), err
}

func (a *API) optIns(r *http.Request) (any, error) {
	in, err := body[struct {
		PageID  string `json:"page_id"`
		Payload string `json:"payload"`
		People  int    `json:"people"`
	}](r)
	if err != nil {
		return nil, err
	}
	if err := text("payload", in.Payload, 1, 1000); err != nil {
		return nil, err
	}
	if in.People < 1 || in.People > maxOptIns {
		return nil, invalid("people is %d: expected 1 to %d", in.People, maxOptIns)
	}
	page, err := a.page(in.PageID)
	if err != nil {
		return nil, err
	}
	psids, err := a.Messenger.NewOptIns(page, in.Payload, in.People)
	return map[string]any{"psids": psids}, err
}

func (a *API) tokens(r *http.Request) (any, error) {
	page, err := a.page(r.URL.Query().Get("page_id"))
	if err != nil {
		return nil, err
	}
	return a.Messenger.Tokens(page.ID), nil
}

func (a *API) clock(*http.Request) (any, error) {
	return map[string]time.Time{"now": a.Messenger.Now()}, nil
}

func (a *API) advance(r *http.Request) (any, error) {
	in, err := body[struct {
		By string `json:"by"`
	}](r)
	if err != nil {
		return nil, err
	}
	by, err := time.ParseDuration(in.By)
	if err != nil || by <= 0 || by > maxAdvance {
		return nil, invalid("by is %q: expected a duration ahead like 25h, at most %s", in.By, maxAdvance)
	}
	now, err := a.Messenger.Advance(by)
	return map[string]time.Time{"now": now}, err
}
