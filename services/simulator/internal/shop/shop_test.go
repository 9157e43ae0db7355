package shop

import (
	"strings"
	"testing"
	"time"

	"github.com/onebell/onebell/services/simulator/internal/platform"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// said writes an answer in a line: texts, {payloads of cards}, (quick replies).
func said(messages []platform.Message) string {
	var parts []string
	for _, m := range messages {
		switch {
		case m.Attachment == nil && len(m.QuickReplies) > 0:
			parts = append(parts, "question")
		case m.Attachment == nil:
			parts = append(parts, "text")
		case m.Attachment.Payload.TemplateType == "generic":
			parts = append(parts, "products")
		default:
			parts = append(parts, m.Attachment.Payload.Payload)
		}
	}
	return strings.Join(parts, " ")
}

func TestWhatTheBotAnswers(t *testing.T) {
	t.Parallel()
	soldOut := func() map[string]State { return NewDesk("", "", nil, noon, nil).States() }
	const all = "stock:RIESLING-2024 stock:RAD-SHIRT-M price:RAD-SHIRT-M?below=49.90%20EUR sale:TICKETS-ROSE"
	for name, c := range map[string]struct {
		heard  Heard
		change func(map[string]State)
		want   string
	}{
		"the chat opens": {Heard{Payload: Start}, nil, "text products " + all + " question"},
		"a taste":        {Heard{Text: "White wine", Payload: "LIKES:white-wine"}, nil, "text"},
		"anything":       {Heard{Text: "hi"}, nil, "text products " + all + " question"},
		"asked already":  {Heard{Text: "hi", Asked: strings.Fields(all)}, nil, "text products question"},
		"in stock": {Heard{Text: "hi"}, func(s map[string]State) {
			s["RAD-SHIRT-M"] = State{SKU: "RAD-SHIRT-M", Available: 1, Price: "64.90"}
		}, "text products stock:RIESLING-2024 price:RAD-SHIRT-M?below=49.90%20EUR sale:TICKETS-ROSE question"},
		"cheap and on sale": {Heard{Text: "hi"}, func(s map[string]State) {
			s["RAD-SHIRT-M"] = State{SKU: "RAD-SHIRT-M", Price: "49.90"}
			s["TICKETS-ROSE"] = State{SKU: "TICKETS-ROSE", SaleAt: noon}
		}, "text products stock:RIESLING-2024 stock:RAD-SHIRT-M question"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := c.heard
			h.States, h.Now = soldOut(), noon
			if c.change != nil {
				c.change(h.States)
			}
			if got := said(Answer(h)); got != c.want {
				t.Errorf("said %q\nwant %q", got, c.want)
			}
		})
	}
}
