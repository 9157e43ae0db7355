package rules

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"time"

	"cel.dev/cel-go/cel"
	"go.yaml.in/yaml/v3"
)

// file is rules.yaml as it is written.
type file struct {
	Segments map[string]located `yaml:"segments"`
	Tags     []struct {
		When located `yaml:"when"`
		Add  located `yaml:"add"`
	} `yaml:"tags"`
	Payloads []struct {
		Match located `yaml:"match"`
		Topic located `yaml:"topic"`
	} `yaml:"payloads"`
	Alerts []alertFile `yaml:"alerts"`
}

type alertFile struct {
	Topic          located       `yaml:"topic"`
	MinAvailable   int64         `yaml:"min_available"`
	MinDropPercent float64       `yaml:"min_drop_percent"`
	Hold           time.Duration `yaml:"hold"`
	CoolDown       time.Duration `yaml:"cool_down"`
	Waves          *struct {
		PeoplePerUnit float64       `yaml:"people_per_unit"`
		Every         time.Duration `yaml:"every"`
		Order         located       `yaml:"order"`
	} `yaml:"waves"`
	Messages []struct {
		Segment located `yaml:"segment"`
		Text    located `yaml:"text"`
		Buttons []struct {
			URL   located `yaml:"url"`
			Title located `yaml:"title"`
		} `yaml:"buttons"`
	} `yaml:"messages"`
}

// located is a string with its place in the file.
type located struct {
	text         string
	line, column int
}

// UnmarshalYAML keeps the place.
func (l *located) UnmarshalYAML(node *yaml.Node) error {
	l.line, l.column = node.Line, node.Column
	return node.Decode(&l.text)
}

// compiler turns a file into rules and collects what is wrong.
type compiler struct {
	problems []error
	segments map[string]cel.Program
}

func (c *compiler) problem(at located, field, format string, args ...any) {
	place := "rules.yaml"
	if at.line > 0 {
		place = fmt.Sprintf("rules.yaml:%d:%d", at.line, at.column)
	}
	c.problems = append(c.problems, fmt.Errorf("%s: %s: %w", place, field, fmt.Errorf(format, args...)))
}

func (c *compiler) compile(f file) *Rules {
	r := &Rules{alerts: map[string]*Alert{}}
	for _, name := range slices.Sorted(maps.Keys(f.Segments)) {
		expr := f.Segments[name]
		if name == Fallback {
			c.problem(expr, "segments."+name, "the name is reserved for everybody else")
		}
		c.segments[name] = c.expression(expr, "segments."+name, segmentEnv(), cel.BoolType)
	}
	for i, t := range f.Tags {
		field := fmt.Sprintf("tags[%d]", i)
		r.tags = append(r.tags, tagRule{
			when: c.expression(t.When, field+".when", tagEnv(), cel.BoolType),
			add:  c.expression(t.Add, field+".add", tagEnv(), cel.StringType, cel.ListType(cel.StringType)),
		})
	}
	for i, p := range f.Payloads {
		field := fmt.Sprintf("payloads[%d]", i)
		match, err := regexp.Compile(p.Match.text)
		switch {
		case p.Match.text == "":
			c.problem(p.Match, field+".match", "missing, expected a regular expression")
		case err != nil:
			c.problem(p.Match, field+".match", "%w", err)
		}
		if kind, name, ok := strings.Cut(p.Topic.text, ":"); !ok || !slices.Contains(kinds, kind) || name == "" {
			c.problem(p.Topic, field+".topic", "%q, expected <kind>:<name> with a kind of %s", p.Topic.text, strings.Join(kinds, ", "))
		}
		r.payloads = append(r.payloads, payloadRule{match, p.Topic.text})
	}
	for i, a := range f.Alerts {
		field := fmt.Sprintf("alerts[%d]", i)
		if !slices.Contains(kinds, a.Topic.text) {
			c.problem(a.Topic, field+".topic", "%q, expected one of %s", a.Topic.text, strings.Join(kinds, ", "))
		}
		if r.alerts[a.Topic.text] != nil {
			c.problem(a.Topic, field+".topic", "%s stands twice", a.Topic.text)
		}
		r.alerts[a.Topic.text] = c.alert(a, field)
	}
	return r
}

// kinds are the topic kinds.
var kinds = []string{"stock", "price", "sale", "custom"}

func (c *compiler) alert(a alertFile, field string) *Alert {
	out := &Alert{
		Kind: a.Topic.text, MinAvailable: max(a.MinAvailable, 1), MinDropPercent: a.MinDropPercent,
		Hold: a.Hold, CoolDown: a.CoolDown,
	}
	for name, value := range map[string]float64{
		"min_available": float64(a.MinAvailable), "min_drop_percent": a.MinDropPercent,
		"hold": float64(a.Hold), "cool_down": float64(a.CoolDown),
	} {
		if value < 0 {
			c.problem(a.Topic, field+"."+name, "is negative")
		}
	}
	if w := a.Waves; w != nil {
		out.Waves = &Waves{PeoplePerUnit: w.PeoplePerUnit, Every: w.Every, Newest: w.Order.text == "newest"}
		if w.PeoplePerUnit <= 0 {
			c.problem(a.Topic, field+".waves.people_per_unit", "%g, expected more than 0", w.PeoplePerUnit)
		}
		if w.Every < 0 {
			c.problem(a.Topic, field+".waves.every", "is negative")
		}
		if !slices.Contains([]string{"", "oldest", "newest"}, w.Order.text) {
			c.problem(w.Order, field+".waves.order", "%q, expected oldest or newest", w.Order.text)
		}
	}
	for i, m := range a.Messages {
		at := fmt.Sprintf("%s.messages[%d]", field, i)
		msg := message{name: Fallback, text: c.template(m.Text, at+".text")}
		if m.Segment.text != "" {
			var known bool
			if msg.segment, known = c.segments[m.Segment.text]; !known {
				c.problem(m.Segment, at+".segment", "%q is not among the segments", m.Segment.text)
			}
			msg.name = m.Segment.text
		}
		if len(m.Buttons) > maxButtons {
			c.problem(m.Text, at+".buttons", "%d, the platform takes at most %d", len(m.Buttons), maxButtons)
		}
		for j, b := range m.Buttons {
			msg.buttons = append(msg.buttons, button{
				url:   c.template(b.URL, fmt.Sprintf("%s.buttons[%d].url", at, j)),
				title: c.template(b.Title, fmt.Sprintf("%s.buttons[%d].title", at, j)),
			})
		}
		out.messages = append(out.messages, msg)
	}
	if n := len(a.Messages); n == 0 || a.Messages[n-1].Segment.text != "" {
		c.problem(a.Topic, field+".messages", "the last one must be without a segment: the words for everybody else")
	}
	return out
}

func (c *compiler) template(at located, field string) *template.Template {
	if at.text == "" {
		c.problem(at, field, "missing")
	}
	t, err := template.New(field).Option("missingkey=error").Parse(at.text)
	if err != nil {
		c.problem(at, field, "%w", err)
	}
	return t
}
