package platform

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf16"
)

// Fields that an app subscribes to, for a page.
var Fields = []string{"messages", "messaging_postbacks", "messaging_optins", "message_deliveries", "message_reads", "message_echoes"}

// Webhook is one event on its way to the page's app.
type Webhook struct {
	PageID, PSID string
	Field        string // which subscription it falls under
	Token        string // of an opt-in
	Body         []byte
}

// envelope and item are the documented form, keys in the order of the platform's examples.
type envelope struct {
	Object string  `json:"object"`
	Entry  []entry `json:"entry"`
}

type entry struct {
	ID        string `json:"id"`
	Time      int64  `json:"time"` // milliseconds
	Messaging []item `json:"messaging"`
}

type party struct {
	ID string `json:"id"`
}

type item struct {
	Sender    party     `json:"sender"`
	Recipient party     `json:"recipient"`
	Timestamp int64     `json:"timestamp"` // milliseconds
	Message   *message  `json:"message,omitempty"`
	Postback  *postback `json:"postback,omitempty"`
	Optin     *optin    `json:"optin,omitempty"`
	Delivery  *delivery `json:"delivery,omitempty"`
	Read      *read     `json:"read,omitempty"`
}

type message struct {
	IsEcho      bool         `json:"is_echo,omitempty"`
	AppID       int64        `json:"app_id,omitempty"`
	Metadata    string       `json:"metadata,omitempty"`
	MID         string       `json:"mid"`
	Text        string       `json:"text,omitempty"`
	QuickReply  *quickReply  `json:"quick_reply,omitempty"`
	Attachments []Attachment `json:"attachments,omitempty"`
}

type quickReply struct {
	Payload string `json:"payload"`
}

type postback struct {
	MID     string `json:"mid"`
	Title   string `json:"title"`
	Payload string `json:"payload"`
}

type optin struct {
	Type    string `json:"type"`
	Payload string `json:"payload"`
	Token   string `json:"one_time_notif_token"`
}

type delivery struct {
	MIDs      []string `json:"mids"`
	Watermark int64    `json:"watermark"`
}

type read struct {
	Watermark int64 `json:"watermark"`
}

func messageHook(page, psid string, e *Entry, now time.Time) Webhook {
	m := &message{MID: e.MessageID, Text: e.Text}
	if e.Payload != "" {
		m.QuickReply = &quickReply{e.Payload}
	}
	return hook("messages", page, psid, item{Message: m}, now)
}

func postbackHook(page, psid string, e *Entry, now time.Time) Webhook {
	return hook("messaging_postbacks", page, psid, item{Postback: &postback{e.MessageID, e.Text, e.Payload}}, now)
}

// OptinHook tells of a tap on a one-time request.
func OptinHook(token string, t Token, now time.Time) Webhook {
	h := hook("messaging_optins", t.PageID, t.PSID, item{Optin: &optin{"one_time_notif_req", t.Payload, token}}, now)
	h.Token = token
	return h
}

func echoHook(page, psid string, e *Entry, now time.Time) Webhook {
	m := &message{IsEcho: true, AppID: AppID, Metadata: e.Metadata, MID: e.MessageID, Text: e.Text}
	if e.Attachment != nil {
		m.Attachments = []Attachment{*e.Attachment}
	}
	// Sender and recipient of an echo are swapped: the page said it.
	return envelop("message_echoes", page, psid, item{Sender: party{page}, Recipient: party{psid}, Message: m}, now)
}

func deliveryHook(page, psid string, e *Entry, now time.Time) Webhook {
	return hook("message_deliveries", page, psid, item{Delivery: &delivery{[]string{e.MessageID}, e.At.UnixMilli()}}, now)
}

func readHook(page, psid string, until, now time.Time) Webhook {
	return hook("message_reads", page, psid, item{Read: &read{until.UnixMilli()}}, now)
}

func hook(field, page, psid string, it item, now time.Time) Webhook {
	it.Sender, it.Recipient = party{psid}, party{page}
	return envelop(field, page, psid, it, now)
}

func envelop(field, page, psid string, it item, now time.Time) Webhook {
	it.Timestamp = now.UnixMilli()
	body, err := json.Marshal(envelope{"page", []entry{{page, now.UnixMilli(), []item{it}}}})
	if err != nil { // strings and numbers only
		panic(err)
	}
	return Webhook{PageID: page, PSID: psid, Field: field, Body: escape(body)}
}

// escape writes JSON as the platform does: slashes as \/, everything beyond ASCII as \uXXXX. Both occur only in strings.
func escape(body []byte) []byte {
	var out strings.Builder
	out.Grow(len(body))
	for _, r := range string(body) {
		switch {
		case r == '/':
			out.WriteString(`\/`)
		case r < 0x80:
			out.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return []byte(out.String())
}
