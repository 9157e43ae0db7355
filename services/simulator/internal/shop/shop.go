// Package shop is the demo shop: what it sells, what its bot answers, and its desk, from which stock, prices and sales
// are told to Onebell as an inventory system would. It knows nothing of tokens and windows.
package shop

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/onebell/onebell/services/simulator/internal/platform"
)

// Product is something the demo shop sells.
type Product struct {
	SKU, Title, Blurb string
	Tags              []string
	Price, LowPrice   string // LowPrice: what the desk's button drops it to; empty: no such button
	Tickets           bool   // sold from a moment on, not from stock
}

// Currency of the demo shop.
const Currency = "EUR"

// Catalogue is what the demo shop sells.
var Catalogue = []Product{
	{SKU: "RIESLING-2024", Title: "Riesling 2024", Blurb: "Dry, Mosel valley, slate and lime.", Tags: []string{"wine", "white-wine"}, Price: "14.90"},
	{SKU: "RAD-SHIRT-M", Title: "Rad shirt M", Blurb: "Heavy cotton, printed by hand.", Tags: []string{"shirts"}, Price: "64.90", LowPrice: "49.90"},
	{SKU: "TICKETS-ROSE", Title: "Concert tickets", Blurb: "Rosé in the park, one night only.", Tags: []string{"tickets"}, Price: "35.00", Tickets: true},
}

// Find finds a product.
func Find(sku string) (Product, bool) {
	i := slices.IndexFunc(Catalogue, func(p Product) bool { return p.SKU == sku })
	if i < 0 {
		return Product{}, false
	}
	return Catalogue[i], true
}

// URL is the product's page in the shop.
func (p Product) URL() string { return "https://shop.example/p/" + p.SKU }

// ImageURL is the product's picture. The phone shows a drawing of its own instead, because shop.example is nowhere.
func (p Product) ImageURL() string { return p.URL() + ".jpg" }

// State is how a product stands at the shop's desk.
type State struct {
	SKU       string    `json:"sku"`
	Available int64     `json:"available"`
	Price     string    `json:"price"`
	SaleAt    time.Time `json:"sale_at,omitzero"`
}

// Begun says whether the sale of tickets has begun.
func (s State) Begun(now time.Time) bool { return !s.SaleAt.IsZero() && !now.Before(s.SaleAt) }

// Card is something that a person can ask to be told about.
type Card struct{ Payload, Title string }

// Cards lists what can be asked about a product as it stands.
func (p Product) Cards(s State, now time.Time) []Card {
	if p.Tickets {
		if s.Begun(now) {
			return nil
		}
		return []Card{{"sale:" + p.SKU, p.Title + ": when the sale starts"}}
	}
	var cards []Card
	if s.Available == 0 {
		cards = append(cards, Card{"stock:" + p.SKU, p.Title + ": when it is back"})
	}
	if p.LowPrice != "" && s.Price == p.Price {
		cards = append(cards, Card{
			fmt.Sprintf("price:%s?below=%s%%20%s", p.SKU, p.LowPrice, Currency),
			fmt.Sprintf("%s: at %s %s or less", p.Title, p.LowPrice, Currency),
		})
	}
	return cards
}

// Heard is what the bot knows when it answers.
type Heard struct {
	Text    string
	Payload string
	Shop    string   // its name
	Asked   []string // what the person already waits for
	States  map[string]State
	Now     time.Time
}

// Payloads of the bot's buttons.
const (
	Start = "GET_STARTED"
	likes = "LIKES:"
)

// Answer is what the bot says, message by message.
func Answer(h Heard) []platform.Message {
	switch {
	case h.Payload == Start:
		return slices.Concat([]platform.Message{{Text: fmt.Sprintf("Hello, this is the bot of %s. Nice to meet you! This is what people ask for:", h.Shop)}},
			offers(h), []platform.Message{question("And which wine do you like?")})
	case strings.HasPrefix(h.Payload, likes):
		liked := strings.ReplaceAll(strings.TrimPrefix(h.Payload, likes), "-", " ")
		return []platform.Message{{Text: fmt.Sprintf("Good choice: %s it is. I will remember.", liked)}}
	}
	text := "This is what we have:"
	if cards(h) == nil {
		text = "You will hear from us about everything that you asked for. This is what we have:"
	}
	return slices.Concat([]platform.Message{{Text: text}}, offers(h), []platform.Message{question("Red or white?")})
}

func question(text string) platform.Message {
	return platform.Message{Text: text, QuickReplies: []platform.QuickReply{
		{ContentType: "text", Title: "White wine", Payload: likes + "white-wine"},
		{ContentType: "text", Title: "Red wine", Payload: likes + "red-wine"},
	}}
}

// offers are the product cards, then a one-time request for each thing that can be asked about and was not.
func offers(h Heard) []platform.Message {
	elements := make([]platform.Element, 0, len(Catalogue))
	for _, p := range Catalogue {
		s := h.States[p.SKU]
		e := platform.Element{Title: p.Title, Subtitle: p.standing(s, h.Now) + "\n" + p.Blurb, ImageURL: p.ImageURL()}
		if s.Available > 0 || p.Tickets && s.Begun(h.Now) {
			e.Buttons = []platform.Button{{Type: "web_url", Title: "Buy now", URL: p.URL()}}
		}
		elements = append(elements, e)
	}
	carousel := platform.Message{Attachment: &platform.Attachment{Type: "template", Payload: platform.Template{TemplateType: "generic", Elements: elements}}}
	return append([]platform.Message{carousel}, cards(h)...)
}

func cards(h Heard) []platform.Message {
	var messages []platform.Message
	for _, p := range Catalogue {
		for _, c := range p.Cards(h.States[p.SKU], h.Now) {
			if slices.Contains(h.Asked, c.Payload) {
				continue // one open request for a person and a topic is enough
			}
			messages = append(messages, platform.Message{Attachment: &platform.Attachment{Type: "template", Payload: platform.Template{
				TemplateType: "one_time_notif_req", Title: c.Title, Payload: c.Payload,
			}}})
		}
	}
	return messages
}

func (p Product) standing(s State, now time.Time) string {
	price := s.Price + " " + Currency
	switch {
	case p.Tickets && s.Begun(now):
		return price + " · on sale"
	case p.Tickets:
		return price + " · sale starts " + s.SaleAt.Format("2 January")
	case s.Available == 0:
		return price + " · sold out"
	}
	return fmt.Sprintf("%s · %d left", price, s.Available)
}
