package shop

import (
	"encoding/json"
	"log/slog"
	"time"

	"github.com/onebell/onebell/services/simulator/internal/messenger"
	"github.com/onebell/onebell/services/simulator/internal/platform"
)

// Bot answers the people of the first page, by the platform's rules like everybody else.
type Bot struct {
	Messenger *messenger.Messenger
	Desk      *Desk
	Log       *slog.Logger
}

// Answer reacts to what a person did.
func (b Bot) Answer(act messenger.Act) {
	all := b.Messenger.Pages().Pages
	if len(all) == 0 || all[0].ID != act.Page.ID {
		return // other pages have bots of their own, or none
	}
	name := act.Page.Name
	if name == "" {
		name = act.Page.Shop
	}
	messages := Answer(Heard{
		Text: act.Text, Payload: act.Payload, Shop: name,
		Asked: b.Messenger.Asked(act.Page.ID, act.PSID), States: b.Desk.States(), Now: b.Messenger.Now(),
	})
	for _, message := range messages {
		s := platform.Send{Type: "RESPONSE", Message: &message}
		s.Recipient.ID = act.PSID
		body, _ := json.Marshal(map[string]any{"recipient": map[string]string{"id": act.PSID}, "messaging_type": s.Type, "message": message}) // cannot fail
		result := b.Messenger.Send(messenger.Call{Page: act.Page, Send: s, Body: body, By: "shop", Arrived: time.Now()})
		if result.Err != nil {
			b.Log.Warn("the demo shop's bot was refused", "page", act.Page.ID, "person", act.PSID, "code", result.Err.Code, "reason", result.Err.Message)
			return
		}
	}
}
