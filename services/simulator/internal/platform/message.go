package platform

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Limits of what a message may hold, from the Send API's reference and the pages of the templates.
const (
	maxText         = 2000 // text must be shorter, in characters
	maxMetadata     = 1000 // must be shorter
	maxPayload      = 1000
	maxQuickReplies = 13
	maxButtons      = 3
	maxElements     = 10
	maxButtonText   = 640 // of the button template
	maxButtonTitle  = 20
	maxElementTitle = 80
	maxCardTitle    = 65 // of the one-time request
)

// Send is a call of the Send API.
type Send struct {
	Recipient struct {
		ID    string `json:"id"`
		Token string `json:"one_time_notif_token"`
	} `json:"recipient"`
	Type    string   `json:"messaging_type"`
	Tag     string   `json:"tag"`
	Action  string   `json:"sender_action"`
	Message *Message `json:"message"`
}

// Message is what a send says.
type Message struct {
	Text         string       `json:"text,omitempty"`
	Metadata     string       `json:"metadata,omitempty"`
	QuickReplies []QuickReply `json:"quick_replies,omitempty"`
	Attachment   *Attachment  `json:"attachment,omitempty"`
}

// QuickReply is an answer offered below a message.
type QuickReply struct {
	ContentType string `json:"content_type,omitempty"`
	Title       string `json:"title,omitempty"`
	Payload     string `json:"payload,omitempty"`
}

// Attachment is a template or media.
type Attachment struct {
	Type    string   `json:"type"`
	Payload Template `json:"payload"`
}

// Template is the payload of an attachment: of a button, generic or one-time request template, or media with its address.
type Template struct {
	TemplateType string    `json:"template_type,omitempty"`
	Text         string    `json:"text,omitempty"`
	Title        string    `json:"title,omitempty"`
	Payload      string    `json:"payload,omitempty"`
	Buttons      []Button  `json:"buttons,omitempty"`
	Elements     []Element `json:"elements,omitempty"`
	URL          string    `json:"url,omitempty"`
}

// Button of a template.
type Button struct {
	Type    string `json:"type"`
	Title   string `json:"title"`
	URL     string `json:"url,omitempty"`
	Payload string `json:"payload,omitempty"`
}

// Element is a card of a generic template.
type Element struct {
	Title    string   `json:"title"`
	Subtitle string   `json:"subtitle,omitempty"`
	ImageURL string   `json:"image_url,omitempty"`
	Buttons  []Button `json:"buttons,omitempty"`
}

// ParseSend reads the body of a call.
func ParseSend(body []byte) (Send, *Error) {
	var s Send
	if err := json.Unmarshal(body, &s); err != nil {
		return Send{}, BadRequest("The request body cannot be read: %v", err)
	}
	return s, nil
}

// media says whether the message counts against the lower rate of audio and video.
func (s Send) media() bool {
	return s.Message != nil && s.Message.Attachment != nil && (s.Message.Attachment.Type == "audio" || s.Message.Attachment.Type == "video")
}

// check says what is wrong with the form of a send, whoever it goes to.
func (s Send) check(sw Switches) *Error {
	switch {
	case (s.Recipient.ID == "") == (s.Recipient.Token == ""):
		return BadRequest("Param recipient must be exactly one of id and one_time_notif_token")
	case s.Action != "" && s.Message != nil:
		return Documented(bothAtOnce)
	case s.Action != "":
		if !slices.Contains([]string{"typing_on", "typing_off", "mark_seen"}, s.Action) {
			return BadRequest("Param sender_action must be one of typing_on, typing_off, mark_seen")
		}
		return nil
	case s.Message == nil:
		return Documented(empty)
	case !slices.Contains([]string{"", "RESPONSE", "UPDATE", "MESSAGE_TAG"}, s.Type):
		return BadRequest("Param messaging_type must be one of RESPONSE, UPDATE, MESSAGE_TAG")
	case s.Type == "" && s.Recipient.Token != "" && sw.NeedsType:
		return BadRequest("Param messaging_type is required")
	case s.Type == "MESSAGE_TAG" && !slices.Contains([]string{"HUMAN_AGENT", "CUSTOMER_FEEDBACK", "NON_PROMOTIONAL_SUBSCRIPTION"}, s.Tag):
		return BadRequest("The message tag is no longer allowed")
	}
	return s.Message.check(sw)
}

func (m *Message) check(sw Switches) *Error {
	switch {
	case m.Text == "" && m.Attachment == nil:
		return Documented(empty)
	case m.Text != "" && m.Attachment != nil:
		return BadRequest("Param message cannot have both text and attachment")
	case utf8.RuneCountInString(m.Text) >= maxText:
		return BadRequest("Length of param message[text] must be less than %d", maxText)
	case utf8.RuneCountInString(m.Metadata) >= maxMetadata:
		return BadRequest("Length of param message[metadata] must be less than %d", maxMetadata)
	case len(m.QuickReplies) > maxQuickReplies:
		return BadRequest("Param message[quick_replies] has too many elements: at most %d", maxQuickReplies)
	}
	for i, q := range m.QuickReplies {
		if q.ContentType == "text" && (q.Title == "" || len(q.Payload) > maxPayload) {
			return BadRequest("Param message[quick_replies][%d] needs a title and a payload of at most %d characters", i, maxPayload)
		}
	}
	if m.Attachment == nil {
		return nil
	}
	switch m.Attachment.Type {
	case "template":
		return m.Attachment.Payload.check(sw)
	case "image", "audio", "video", "file":
		if !webAddress(m.Attachment.Payload.URL) {
			return Documented(ErrorCode{100, 2018008})
		}
		return nil
	}
	return BadRequest("Param message[attachment][type] must be one of audio, file, image, video, template")
}

func (t Template) check(sw Switches) *Error {
	switch t.TemplateType {
	case "one_time_notif_req":
		if t.Title == "" || length(t.Title, sw.TitleUnit) > maxCardTitle {
			return BadRequest("Param title of the one-time notification request must have 1 to %d characters", maxCardTitle)
		}
		if t.Payload == "" || len(t.Payload) > maxPayload {
			return BadRequest("Param payload of the one-time notification request must have 1 to %d characters", maxPayload)
		}
		return nil
	case "button":
		if t.Text == "" || utf8.RuneCountInString(t.Text) > maxButtonText {
			return BadRequest("Param text of the button template must have 1 to %d characters", maxButtonText)
		}
		if len(t.Buttons) == 0 {
			return BadRequest("Param buttons of the button template must have 1 to %d elements", maxButtons)
		}
		return checkButtons(t.Buttons)
	case "generic":
		if len(t.Elements) == 0 || len(t.Elements) > maxElements {
			return BadRequest("Param elements of the generic template must have 1 to %d elements", maxElements)
		}
		for i, e := range t.Elements {
			if e.Title == "" || utf8.RuneCountInString(e.Title) > maxElementTitle {
				return BadRequest("Param elements[%d][title] must have 1 to %d characters", i, maxElementTitle)
			}
			if err := checkButtons(e.Buttons); err != nil {
				return err
			}
		}
		return nil
	}
	return BadRequest("Param template_type %q is not one that this platform knows: button, generic, one_time_notif_req", t.TemplateType)
}

func checkButtons(buttons []Button) *Error {
	if len(buttons) > maxButtons {
		return BadRequest("Param buttons has too many elements: at most %d", maxButtons)
	}
	for i, b := range buttons {
		switch {
		case b.Title == "" || utf8.RuneCountInString(b.Title) > maxButtonTitle:
			return BadRequest("Param buttons[%d][title] must have 1 to %d characters", i, maxButtonTitle)
		case b.Type == "web_url" && !webAddress(b.URL):
			return BadRequest("Param buttons[%d][url] should represent a valid URL", i)
		case b.Type == "postback" && (b.Payload == "" || len(b.Payload) > maxPayload):
			return BadRequest("Param buttons[%d][payload] must have 1 to %d characters", i, maxPayload)
		case !slices.Contains([]string{"web_url", "postback", "phone_number"}, b.Type):
			return BadRequest("Param buttons[%d][type] must be one of web_url, postback, phone_number", i)
		}
	}
	return nil
}

func webAddress(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https") && !strings.ContainsAny(s, " \n")
}

func length(s, unit string) int {
	switch unit {
	case "bytes":
		return len(s)
	case "runes":
		return utf8.RuneCountInString(s)
	}
	return len(utf16.Encode([]rune(s)))
}
