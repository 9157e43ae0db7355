// Package rules reads rules.yaml: which events make alerts, for whom, with which words, and what taps and payloads mean.
// Everything that can be wrong is found when the file is read: expressions are compiled and type-checked, templates and
// patterns compiled. It knows no stream and sends nothing.
package rules

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"text/template"
	"time"

	"cel.dev/cel-go/cel"
	"go.yaml.in/yaml/v3"
)

// Rules is a rules.yaml that was read and compiled. The zero value maps nothing and alerts nobody.
type Rules struct {
	tags     []tagRule
	payloads []payloadRule
	alerts   map[string]*Alert
}

// Alert is how the events of one topic kind (stock, price, sale, custom) become messages.
type Alert struct {
	Kind           string
	MinAvailable   int64         // units from which a product counts as in stock; default 1
	MinDropPercent float64       // smallest drop that concerns a person who named no target price
	Hold           time.Duration // the change must last this long before anyone is told
	CoolDown       time.Duration // at the least between two alerts of one sku
	Waves          *Waves        // nil: everybody at once
	messages       []message
}

// Waves sizes an alert by the stock.
type Waves struct {
	PeoplePerUnit float64       // people told for each unit
	Every         time.Duration // between two waves
	Newest        bool          // who opted in last comes first
}

type tagRule struct{ when, add cel.Program }

type payloadRule struct {
	match *regexp.Regexp
	topic string
}

// Fallback is the name of the segment of everybody for whom no other message fits.
const Fallback = "fallback"

// Parse reads the text of a rules.yaml. One without content, or with comments only, has no rules. The error lists every problem, each with line and column.
func Parse(text []byte) (*Rules, error) {
	var f file
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("rules.yaml: %w", err)
	}
	c := compiler{segments: map[string]cel.Program{}}
	rules := c.compile(f)
	if len(c.problems) > 0 {
		return nil, errors.Join(c.problems...)
	}
	return rules, nil
}

// Alert is the rule for a topic kind; false when its events make no alerts.
func (r *Rules) Alert(kind string) (*Alert, bool) {
	a, ok := r.alerts[kind]
	return a, ok
}

// Topic maps a foreign opt-in payload by the `payloads` rules, first match wins.
func (r *Rules) Topic(payload string) (string, bool) {
	for _, p := range r.payloads {
		if m := p.match.FindStringSubmatchIndex(payload); m != nil {
			return string(p.match.ExpandString(nil, p.topic, payload, m)), true
		}
	}
	return "", false
}

// Tags says which tags an event adds to a person. A rule that fails on this event (a payload too short, say) adds nothing;
// the error names it, and the tags of the other rules are still given.
func (r *Rules) Tags(event Event, person Person) (add []string, err error) {
	in := map[string]any{"event": event, "person": person}
	var failed []error
	for i, rule := range r.tags {
		yes, err := evalBool(rule.when, in)
		if err != nil {
			failed = append(failed, fmt.Errorf("tags[%d].when: %w", i, err))
			continue
		}
		if !yes {
			continue
		}
		tags, err := evalStrings(rule.add, in)
		if err != nil {
			failed = append(failed, fmt.Errorf("tags[%d].add: %w", i, err))
		}
		add = append(add, tags...)
	}
	return add, errors.Join(failed...)
}

// Rendered is a message as a person gets it.
type Rendered struct {
	Segment string
	Text    string
	Buttons []RenderedButton
	Failed  []Failure // segments asked before that could not tell
}

// Failure is a segment whose expression failed for a person: it counts as not fitting.
type Failure struct {
	Segment string
	Err     error
}

// RenderedButton opens a page.
type RenderedButton struct{ URL, Title string }

// Words chooses the first message whose segment fits the person and fills it in. A segment whose expression fails does not
// fit; Failed tells of it, with an error too. An error means that this person's message cannot be rendered (verdict
// no_words); it names the message and the field, never what a person wrote.
func (a *Alert) Words(person Person, topic string, product Product, data map[string]any) (Rendered, error) {
	in := map[string]any{"person": person, "topic": topic, "product": product}
	var failed []Failure
	for i, m := range a.messages {
		if m.segment != nil {
			fits, err := evalBool(m.segment, in)
			if err != nil {
				failed = append(failed, Failure{m.name, err})
			}
			if !fits {
				continue
			}
		}
		out, err := m.render(data)
		out.Failed = failed
		if err != nil {
			return out, fmt.Errorf("message %d (%s): %w", i, m.name, err)
		}
		return out, nil
	}
	return Rendered{Failed: failed}, errors.New("no message fits: the last one needs to be without a segment")
}

type message struct {
	name    string
	segment cel.Program // nil: everybody
	text    *template.Template
	buttons []button
}

type button struct{ url, title *template.Template }

// The platform's limits, checked after rendering. Lengths count UTF-16 units, the strictest of the usual readings.
const (
	maxText           = 1999 // "less than 2000 characters"
	maxTextWithButton = 640  // button template
	maxButtons        = 3
	maxButtonTitle    = 20
)

func (m message) render(data map[string]any) (Rendered, error) {
	limit := maxText
	if len(m.buttons) > 0 {
		limit = maxTextWithButton
	}
	out := Rendered{Segment: m.name}
	var err error
	if out.Text, err = fill("text", m.text, data, limit); err != nil {
		return Rendered{}, err
	}
	for i, b := range m.buttons {
		var r RenderedButton
		if r.Title, err = fill(fmt.Sprintf("buttons[%d].title", i), b.title, data, maxButtonTitle); err != nil {
			return Rendered{}, err
		}
		if r.URL, err = fill(fmt.Sprintf("buttons[%d].url", i), b.url, data, maxText); err != nil {
			return Rendered{}, err
		}
		if !strings.HasPrefix(r.URL, "https://") && !strings.HasPrefix(r.URL, "http://127.0.0.1:") {
			return Rendered{}, fmt.Errorf("buttons[%d].url: not an https address", i)
		}
		out.Buttons = append(out.Buttons, r)
	}
	return out, nil
}

func fill(field string, t *template.Template, data map[string]any, limit int) (string, error) {
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return "", fmt.Errorf("%s: %w", field, err)
	}
	switch n := utf16Len(b.String()); {
	case n > limit:
		return "", fmt.Errorf("%s: %d characters, the platform takes at most %d", field, n, limit)
	case strings.TrimSpace(b.String()) == "":
		return "", fmt.Errorf("%s: empty", field)
	}
	return b.String(), nil
}

func utf16Len(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r > 0xffff {
			n++
		}
	}
	return n
}
