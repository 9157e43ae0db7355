package rules_test

import (
	"strings"
	"testing"
	"time"

	"github.com/onebell/onebell/proto/rules"
)

const example = `
segments:
  white-wine: "'white-wine' in person.tags"
  red-wine:   "'red-wine' in person.tags"
tags:
  - when: "event.payload.startsWith('LIKES:')"
    add: "event.payload.substring(6)"
payloads:
  - match: '^NOTIFY_(?P<sku>[A-Z0-9-]+)$'
    topic: "stock:${sku}"
alerts:
  - topic: stock
    min_available: 2
    hold: 30s
    cool_down: 15m
    waves: {people_per_unit: 3, every: 10m, order: oldest}
    messages:
      - segment: white-wine
        text: "{{.product.title}} is back, and it goes well with oysters. {{.available}} left."
        buttons: [{url: "{{.product.url}}", title: "Buy now"}]
      - text: "{{.product.title}} is back in stock."
`

func parse(t *testing.T, text string) *rules.Rules {
	t.Helper()
	r, err := rules.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWordsBySegment(t *testing.T) {
	t.Parallel()
	a, ok := parse(t, example).Alert("stock")
	if !ok || a.MinAvailable != 2 || a.Hold != 30*time.Second || a.CoolDown != 15*time.Minute || a.Waves.PeoplePerUnit != 3 {
		t.Fatalf("alert = %+v (%v)", a, ok)
	}
	data := map[string]any{"available": int64(80), "product": map[string]any{"title": "Riesling", "url": "https://shop.example/r"}}
	for _, c := range []struct {
		tags          []string
		segment, text string
	}{
		{[]string{"white-wine"}, "white-wine", "Riesling is back, and it goes well with oysters. 80 left."},
		{[]string{"red-wine"}, "fallback", "Riesling is back in stock."},
		{nil, "fallback", "Riesling is back in stock."},
	} {
		got, err := a.Words(rules.Person{Tags: c.tags}, "stock:R", rules.Product{}, data)
		if err != nil || got.Segment != c.segment || got.Text != c.text {
			t.Errorf("tags %v: %+v, %v", c.tags, got, err)
		}
	}
	if _, err := a.Words(rules.Person{}, "stock:R", rules.Product{}, map[string]any{"available": 1}); err == nil || !strings.Contains(err.Error(), "product") {
		t.Errorf("a field that the event lacks: %v, want an error that names it", err)
	}
}

func TestASegmentThatFailsDoesNotFit(t *testing.T) {
	t.Parallel()
	a, _ := parse(t, `
segments:
  first-tag: "person.tags[0] == 'vip'"
  french: "person.locale == 'fr_FR'"
alerts:
  - topic: sale
    messages: [{segment: first-tag, text: vip}, {segment: french, text: bonjour}, {text: "{{.hello}}"}]
`).Alert("sale")
	data := map[string]any{"hello": "hello"}
	for locale, want := range map[string]string{"fr_FR": "bonjour", "": "hello"} {
		got, err := a.Words(rules.Person{Locale: locale}, "sale:x", rules.Product{}, data)
		if err != nil || got.Text != want || len(got.Failed) != 1 || got.Failed[0].Segment != "first-tag" || got.Failed[0].Err == nil {
			t.Errorf("no tags, locale %q: %+v, %v, want %q and the segment that failed", locale, got, err, want)
		}
	}
	if got, err := a.Words(rules.Person{Tags: []string{"vip"}}, "sale:x", rules.Product{}, data); err != nil || got.Text != "vip" || len(got.Failed) != 0 {
		t.Errorf("vip: %+v, %v", got, err)
	}
	if got, err := a.Words(rules.Person{}, "sale:x", rules.Product{}, nil); err == nil || len(got.Failed) != 1 {
		t.Errorf("no words: %+v, %v, want both told", got, err)
	}
}

func TestLimitsAreCheckedAfterRendering(t *testing.T) {
	t.Parallel()
	a, _ := parse(t, `
alerts:
  - topic: sale
    messages: [{text: "{{.product.title}}", buttons: [{url: "{{.product.url}}", title: "Go"}]}]
`).Alert("sale")
	for name, product := range map[string]map[string]any{
		"text":           {"title": strings.Repeat("😀", 321), "url": "https://x.example"},
		"buttons[0].url": {"title": "t", "url": "javascript:alert(1)"},
		"empty":          {"title": " ", "url": "https://x.example"},
	} {
		if _, err := a.Words(rules.Person{}, "sale:x", rules.Product{}, map[string]any{"product": product}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTagsAndTopics(t *testing.T) {
	t.Parallel()
	r := parse(t, example)
	if got, err := r.Tags(rules.Event{Kind: "postback", Payload: "LIKES:red-wine"}, rules.Person{}); err != nil || len(got) != 1 || got[0] != "red-wine" {
		t.Errorf("Tags = %v, %v", got, err)
	}
	if got, err := r.Tags(rules.Event{Payload: "HELLO"}, rules.Person{}); err != nil || len(got) != 0 {
		t.Errorf("Tags of another payload = %v, %v", got, err)
	}
	if got, ok := r.Topic("NOTIFY_RAD-1"); !ok || got != "stock:RAD-1" {
		t.Errorf("Topic = %q, %v", got, ok)
	}
	if got, ok := r.Topic("something else"); ok {
		t.Errorf("Topic = %q, want none", got)
	}
}

func TestParseNamesEveryProblemWithItsPlace(t *testing.T) {
	t.Parallel()
	_, err := rules.Parse([]byte(`segments:
  a: "person.nope == 1"
  b: "person.locale"
  fallback: "true"
payloads:
  - {match: '(', topic: "stock"}
alerts:
  - topic: weather
    waves: {people_per_unit: 0, order: lottery}
    messages:
      - {segment: c, text: "{{.x"}
`))
	if err == nil {
		t.Fatal("want an error")
	}
	for _, want := range []string{
		"rules.yaml:2:6: segments.a", "undefined field", "rules.yaml:3:6: segments.b: is a string, expected bool", "reserved",
		"payloads[0].match", "payloads[0].topic", "alerts[0].topic", "people_per_unit", "lottery", "not among the segments",
		"messages[0].text", "must be without a segment",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
	if _, err := rules.Parse([]byte("alerts:\n  - topik: stock\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a misspelt field: %v, want its line", err)
	}
}

func TestWithoutContentThereAreNoRules(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", " \n", "# nothing yet\n", "---\n# nothing yet\n", "alerts:\n", "alerts: []\n"} {
		r, err := rules.Parse([]byte(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if _, ok := r.Alert("stock"); ok {
			t.Errorf("%q: an alert", text)
		}
	}
}

func TestWarningsNameFieldsThatAreNeverThere(t *testing.T) {
	t.Parallel()
	got := parse(t, `
alerts:
  - topic: stock
    messages: [{text: "{{.product.title}} {{.price.amount}} {{if .wish.qty}}{{.starts_at}}{{end}}", buttons: [{url: "{{.prodct.url}}", title: "{{.available}}"}]}]
  - topic: price
    messages: [{text: "{{.price.amount}} {{with .product}}{{.title}}{{end}}"}]
`).Warnings()
	want := []string{".price.amount: events of kind stock", ".starts_at: events of kind stock", ".prodct.url: there is no such field"}
	if len(got) != len(want) {
		t.Fatalf("warnings %q", got)
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("warning %q, want %q", got[i], want[i])
		}
	}
	if got := parse(t, example).Warnings(); len(got) != 0 {
		t.Errorf("warnings of the example: %q", got)
	}
}
