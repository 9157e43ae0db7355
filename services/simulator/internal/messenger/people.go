package messenger

import (
	"crypto/rand"
	"fmt"
	"math/big"
	"time"

	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/services/simulator/internal/memory"
	"github.com/onebell/onebell/services/simulator/internal/platform"
)

// names for people who are made without one.
var names = []string{"Ana", "Bruno", "Chloé", "Dmitri", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kaya", "Lucía", "Mats", "Nora", "Omar", "Paula"}

// newPSID is an id like the platform's: 16 digits.
func newPSID() string {
	n, err := rand.Int(rand.Reader, big.NewInt(1e14))
	if err != nil { // never: see crypto/rand
		panic(err)
	}
	return fmt.Sprintf("73%014d", n)
}

// AddPerson makes a person of a page; psid and name are made up where empty. One that is there already is given back.
func (m *Messenger) AddPerson(page, psid, name, locale string) (platform.Person, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if psid == "" {
		psid = newPSID()
	}
	if p := m.world.Person(page, psid); p != nil {
		return *p, false, nil
	}
	if name == "" {
		_, total := m.world.People(page, 0)
		name = names[total%len(names)]
	}
	return m.addPerson(page, psid, name, locale)
}

func (m *Messenger) addPerson(page, psid, name, locale string) (platform.Person, bool, error) {
	now := m.now()
	if err := m.memory.Append(memory.Record{What: memory.Person, PageID: page, PSID: psid, Name: name, Locale: locale, At: now}); err != nil {
		return platform.Person{}, false, err
	}
	p, isNew := m.world.AddPerson(page, psid, name, locale, now)
	m.Tell("people")
	return *p, isNew, nil
}

// People lists up to limit of a page's people, oldest first, and says how many there are.
func (m *Messenger) People(page string, limit int) ([]platform.Person, int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.world.People(page, limit)
}

// Person finds one.
func (m *Messenger) Person(page, psid string) (platform.Person, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.world.Person(page, psid)
	if p == nil {
		return platform.Person{}, platform.ErrNoPerson
	}
	return *p, nil
}

// Conversation is what was said with a person.
func (m *Messenger) Conversation(page, psid string) []platform.Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.world.Conversation(page, psid)
}

// Block makes a person unreachable, or reachable again.
func (m *Messenger) Block(page, psid string, blocked bool) (platform.Person, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.world.Person(page, psid)
	if p == nil {
		return platform.Person{}, platform.ErrNoPerson
	}
	p.Blocked = blocked
	m.Tell("people")
	return *p, nil
}

// Type sends a person's message; quickReply is the payload of the answer that was tapped, if any.
func (m *Messenger) Type(page pages.Page, psid, text, quickReply string) error {
	return m.opening(page, psid, Act{Text: text, Payload: quickReply}, func(now time.Time) (platform.Webhook, error) {
		return m.world.Type(page.ID, psid, text, quickReply, now)
	})
}

// Postback taps a button that has a payload.
func (m *Messenger) Postback(page pages.Page, psid, title, payload string) error {
	return m.opening(page, psid, Act{Text: title, Payload: payload}, func(now time.Time) (platform.Webhook, error) {
		return m.world.Postback(page.ID, psid, title, payload, now)
	})
}

// opening does an act that opens the 24-hour window, and has the bot answer.
func (m *Messenger) opening(page pages.Page, psid string, act Act, do func(time.Time) (platform.Webhook, error)) error {
	err := m.locked(func() error {
		if m.world.Person(page.ID, psid) == nil {
			return platform.ErrNoPerson
		}
		now := m.now()
		if err := m.memory.Append(memory.Record{What: memory.Opened, PageID: page.ID, PSID: psid, At: now}); err != nil {
			return err
		}
		hook, err := do(now)
		if err != nil {
			return err
		}
		return m.publish(hook)
	})
	if err != nil {
		return err
	}
	m.Tell(Thread(page.ID, psid), "people")
	act.Page, act.PSID = page, psid
	m.answer(act)
	return nil
}

func (m *Messenger) locked(do func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return do()
}

// Tap taps Notify me on a card, found by its message id or else by its payload, and gives the one-time token.
func (m *Messenger) Tap(page pages.Page, psid, messageID, payload string) (token string, err error) {
	err = m.locked(func() error {
		card, err := m.world.FindCard(page.ID, psid, messageID, payload)
		if err != nil {
			return err
		}
		token, err = m.issue(page.ID, psid, card, card.Attachment.Payload.Payload)
		return err
	})
	m.Tell(Thread(page.ID, psid))
	return token, err
}

// OptIn gives a token as if the person had tapped a card that the conversation does not hold: for load tests.
func (m *Messenger) OptIn(page pages.Page, psid, payload string) (token string, err error) {
	err = m.locked(func() error {
		if m.world.Person(page.ID, psid) == nil {
			return platform.ErrNoPerson
		}
		token, err = m.issue(page.ID, psid, nil, payload)
		return err
	})
	return token, err
}

// NewOptIns makes people and one token for each.
func (m *Messenger) NewOptIns(page pages.Page, payload string, count int) (psids []string, err error) {
	for range count {
		err = m.locked(func() error {
			p, _, err := m.addPerson(page.ID, newPSID(), "Load test", "")
			if err != nil {
				return err
			}
			psids = append(psids, p.PSID)
			_, err = m.issue(page.ID, p.PSID, nil, payload)
			return err
		})
		if err != nil {
			break
		}
	}
	return psids, err
}

func (m *Messenger) issue(page, psid string, card *platform.Entry, payload string) (string, error) {
	now := m.now()
	token, t := m.world.NewToken(page, psid, payload, now)
	if err := m.memory.Append(memory.Record{What: memory.Issued, Token: token, PageID: page, PSID: psid, Payload: payload, At: now}); err != nil {
		return "", err
	}
	return token, m.publish(m.world.Tap(card, token, t))
}

// Read says that a person has seen everything.
func (m *Messenger) Read(page, psid string) error {
	return m.locked(func() error {
		hook, new, err := m.world.Read(page, psid, m.now())
		if err != nil || !new {
			return err
		}
		return m.publish(hook)
	})
}

// Asked lists the payloads for which a person waits to be told.
func (m *Messenger) Asked(page, psid string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.world.Asked(page, psid, m.now())
}
