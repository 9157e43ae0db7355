package phone

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/onebell/onebell/services/simulator/internal/messenger"
	"github.com/onebell/onebell/services/simulator/internal/platform"
	"github.com/onebell/onebell/services/simulator/internal/shop"
)

// view is everything that the page shows.
type view struct {
	Shop, PageID string
	Configured   bool
	Person       platform.Person
	Known        bool // the person is there
	Window       string
	Clock        string
	People       []platform.Person
	More         int // people not shown
	Thread       []entry
	QuickReplies []platform.QuickReply
	Products     []product
	Log          []line
}

// entry is something said, ready to be shown.
type entry struct {
	platform.Entry
	Clock   string
	Art     []element
	Card    bool
	CardID  string // stable id of the card's button: notify-<sku>-<kind>
	Buttons []platform.Button
	Words   string
}

type element struct {
	platform.Element
	Art string
}

type product struct {
	shop.Product
	Stand, Mood string // how it stands, and the colour for it
	State       shop.State
	Begun       bool
	Art         string
}

type line struct {
	Seq                        int64
	Clock, Arrow, Kind, Detail string
	Who, Status, Mood, Hint    string
	Quiet                      bool // of those that come with every message
}

// look gathers the page for a person; without one, the first of the page.
func (p *Page) look(psid string) view {
	all := p.messenger.Pages().Pages
	if len(all) == 0 {
		return view{Shop: "no page yet"}
	}
	page, now := all[0], p.messenger.Now()
	zone, err := time.LoadLocation(page.Timezone)
	if err != nil {
		zone = time.UTC
	}
	v := view{Shop: page.Name, PageID: page.ID, Configured: true, Clock: now.In(zone).Format("2 Jan 2006, 15:04")}
	if v.Shop == "" {
		v.Shop = page.Shop
	}
	var total int
	v.People, total = p.messenger.People(page.ID, shownPeople)
	v.More = total - len(v.People)
	if psid == "" && len(v.People) > 0 {
		psid = v.People[0].PSID
	}
	if person, err := p.messenger.Person(page.ID, psid); err == nil {
		v.Person, v.Known = person, true
		if !slices.ContainsFunc(v.People, func(o platform.Person) bool { return o.PSID == psid }) {
			v.People = append(v.People, person)
			v.More--
		}
	}
	if v.Known {
		v.Window = window(v.Person, now)
		v.Thread = thread(p.messenger.Conversation(page.ID, v.Person.PSID), zone)
		if n := len(v.Thread); n > 0 {
			v.QuickReplies = v.Thread[n-1].QuickReplies // they go away with the next message
		}
	}
	v.Products = products(p.desk.States(), now, zone)
	for _, l := range p.messenger.Newest(shownLines) {
		who, _ := p.messenger.Person(page.ID, l.PSID) // nobody: no name
		v.Log = append(v.Log, logLine(l, who.Name, zone))
	}
	return v
}

func window(p platform.Person, now time.Time) string {
	if !p.Open(now) {
		return "24-hour window closed"
	}
	left := p.OpenedAt.Add(platform.Window).Sub(now)
	return fmt.Sprintf("24-hour window open, %d h %d min left", int(left.Hours()), int(left.Minutes())%60)
}

// thread readies a conversation. The newest card of a topic carries the stable id.
func thread(conversation []platform.Entry, zone *time.Location) []entry {
	list := make([]entry, len(conversation))
	named := map[string]bool{}
	for i := len(conversation) - 1; i >= 0; i-- {
		c := conversation[i]
		e := entry{Entry: c, Clock: c.At.In(zone).Format("15:04"), Card: c.Card(), Words: c.Text}
		if c.Attachment != nil {
			t := c.Attachment.Payload
			e.Buttons = t.Buttons
			if t.Text != "" {
				e.Words = t.Text
			}
			for _, el := range t.Elements {
				e.Art = append(e.Art, element{el, art(el.ImageURL)})
			}
			if id := cardID(t.Payload); e.Card && !named[id] {
				named[id], e.CardID = true, id
			}
		}
		list[i] = e
	}
	return list
}

// cardID makes notify-RAD-SHIRT-M-stock of stock:RAD-SHIRT-M.
func cardID(payload string) string {
	kind, rest, _ := strings.Cut(payload, ":")
	name, _, _ := strings.Cut(rest, "?")
	return "notify-" + name + "-" + kind
}

// art is the drawing for a picture of the demo shop; the page fetches nothing from elsewhere.
func art(imageURL string) string {
	for _, p := range shop.Catalogue {
		if imageURL == p.ImageURL() {
			return "/static/" + strings.ToLower(p.SKU) + ".svg"
		}
	}
	return ""
}

func products(states map[string]shop.State, now time.Time, zone *time.Location) []product {
	list := make([]product, 0, len(shop.Catalogue))
	for _, p := range shop.Catalogue {
		s := states[p.SKU]
		d := product{Product: p, State: s, Begun: s.Begun(now), Art: art(p.ImageURL()), Stand: "Sold out", Mood: "bad"}
		switch {
		case p.Tickets && d.Begun:
			d.Stand, d.Mood = "On sale", "good"
		case p.Tickets:
			d.Stand, d.Mood = "Sale starts "+s.SaleAt.In(zone).Format("2 Jan, 15:04"), "soon"
		case s.Available > 0:
			d.Stand, d.Mood = fmt.Sprintf("%d in stock", s.Available), "good"
		}
		list = append(list, d)
	}
	return list
}

func logLine(l messenger.Line, who string, zone *time.Location) line {
	v := line{Seq: l.Seq, Clock: l.At.In(zone).Format("15:04:05"), Arrow: "in", Kind: l.What, Detail: l.Detail, Who: who, Hint: l.Problem}
	switch l.What {
	case messenger.WebhookOut:
		v.Arrow = "out"
		v.Quiet = slices.Contains([]string{"message_echoes", "message_deliveries", "message_reads"}, l.Detail)
		if l.Attempt > 1 {
			v.Detail += fmt.Sprintf(", try %d", l.Attempt)
		}
	case messenger.EventOut:
		v.Arrow = "out"
	case messenger.SendIn:
		switch {
		case l.By == "shop":
			v.Detail, v.Quiet = "by the shop's bot", true
		case l.Detail == "token":
			v.Detail = "by one-time token"
		case l.Detail == "id":
			v.Detail = "by person id"
		}
	}
	v.Status, v.Mood = fmt.Sprint(l.Status), "good"
	switch {
	case l.Status == 0:
		v.Status, v.Mood = "no answer", "bad"
	case l.Status >= 400 || l.What == messenger.WebhookOut && l.Status != 200:
		v.Mood = "bad"
	}
	if l.Code != 0 {
		v.Status = fmt.Sprintf("%d · error %s", l.Status, platform.ErrorCode{Code: l.Code, Subcode: l.Subcode})
	}
	return v
}
