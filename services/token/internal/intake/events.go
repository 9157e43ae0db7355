package intake

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/onebell/onebell/proto/rules"
)

// event is what Onebell needs of the platform's events.
type event struct {
	Timestamp json.RawMessage `json:"timestamp"`
	Message   *struct {
		IsEcho     bool   `json:"is_echo"`
		Text       string `json:"text"`
		QuickReply *struct {
			Payload string `json:"payload"`
		} `json:"quick_reply"`
		Referral *referral `json:"referral"`
	} `json:"message"`
	Postback *struct {
		Payload  string    `json:"payload"`
		Referral *referral `json:"referral"`
	} `json:"postback"`
	Reaction *struct {
		Action string `json:"action"`
	} `json:"reaction"`
	Referral *referral `json:"referral"`
	Optin    *struct {
		Type string `json:"type"`
		Ref  string `json:"ref"`
	} `json:"optin"`
}

type referral struct {
	Ref    string `json:"ref"`
	Source string `json:"source"`
}

// Said is what a person did, as far as Onebell cares.
type Said struct {
	rules.Event
	At    time.Time
	Opens bool // opens the 24-hour window (platform notes, 2.5)
}

// kindStandby is the kind of everything that happens while another app leads the conversation.
const kindStandby = "standby"

// TaggingKinds are the event kinds that can say something about a person.
var TaggingKinds = []string{"message", "postback", "referral", "optin", "reaction", kindStandby}

// ReadEvent reads a message of EVENTS; false when it is nothing that a person did, or cannot be read: it is kept in the
// stream all the same.
func ReadEvent(kind string, body []byte, stored time.Time) (Said, bool) {
	if !slices.Contains(TaggingKinds, kind) {
		return Said{}, false
	}
	var e event
	if err := json.Unmarshal(body, &e); err != nil {
		return Said{}, false
	}
	if e.Message != nil && e.Message.IsEcho {
		return Said{}, false // the page's own, in standby: see ReadEcho
	}
	var timestamp any = json.Number(strings.Trim(string(e.Timestamp), `"`))
	s := Said{Event: rules.Event{Kind: kind}, At: optinTime(timestamp, "", stored)}
	link := e.Referral
	switch {
	case e.Message != nil:
		s.Text, s.Opens = e.Message.Text, true
		if e.Message.QuickReply != nil {
			s.Payload = e.Message.QuickReply.Payload
		}
		if link == nil {
			link = e.Message.Referral
		}
	case e.Postback != nil:
		s.Payload, s.Opens = e.Postback.Payload, true
		if link == nil {
			link = e.Postback.Referral
		}
	case e.Reaction != nil:
		s.Opens = e.Reaction.Action == "react"
	case e.Optin != nil:
		// A plugin opt-in starts a conversation; a one-time one is not said to, so it is taken not to.
		s.Ref, s.Opens = e.Optin.Ref, e.Optin.Type == "" && e.Optin.Ref != ""
	}
	if link != nil {
		s.Ref = link.Ref
		s.Opens = s.Opens || e.Referral != nil && link.Source == "SHORTLINK"
	}
	return s, true
}
