// Package pages reads pages.yaml: the pages whose people Onebell tells, with their tokens, secrets and limits.
// It reads no environment and no file by itself beyond the ones that the values name.
package pages

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // zones are known in an image without files

	"go.yaml.in/yaml/v3"
	"golang.org/x/text/language"
)

// Secret is a string that is never shown: logs, errors and JSON get "***". Reveal gives it.
type Secret string

// Reveal is the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String hides the secret.
func (Secret) String() string { return "***" }

// GoString hides the secret.
func (Secret) GoString() string { return "***" }

// LogValue hides the secret.
func (Secret) LogValue() slog.Value { return slog.StringValue("***") }

// MarshalText hides the secret.
func (Secret) MarshalText() ([]byte, error) { return []byte("***"), nil }

// Page is one page of the business.
type Page struct {
	ID             string   `yaml:"id"`
	Shop           string   `yaml:"shop"` // whose inventory events concern this page; default "default"
	Name           string   `yaml:"name"`
	AccessToken    Secret   `yaml:"access_token"`
	AppSecrets     []Secret `yaml:"app_secrets"` // any of them may sign
	VerifyToken    Secret   `yaml:"verify_token"`
	Timezone       string   `yaml:"timezone"`         // IANA name; default UTC
	Locale         string   `yaml:"locale"`           // like fr_FR; default en_US
	Currency       string   `yaml:"currency"`         // ISO 4217
	SendsPerSecond float64  `yaml:"sends_per_second"` // default 30; above 40 a page's own inbox stalls; the platform's limit is 300
	MediaPerSecond float64  `yaml:"media_per_second"` // default 8
	DailySends     int64    `yaml:"daily_sends"`      // 0: from 200 x reachable people
	QuietHours     string   `yaml:"quiet_hours"`      // like 22:00-08:00
}

// File is pages.yaml. The zero value knows no page.
type File struct {
	Pages []Page `yaml:"pages"`
}

// Defaults and bounds of a page's pace, in calls a second.
const (
	DefaultSendsPerSecond = 30
	DefaultMediaPerSecond = 8
	maxSendsPerSecond     = 300 // the platform's own limit for text
)

// nothing is said of a file without content. It is refused, although `pages: []` is not: a file is empty for a moment while
// some editors write it, and a service that knows no page refuses its webhooks.
const nothing = `pages.yaml: nothing in it, expected the pages of the business ("pages: []" when there is none yet), like
pages:
  - id: "104200000000017"
    access_token: ${PAGE_TOKEN}
    app_secrets: ["${APP_SECRET}"]`

// Parse reads the text of a pages.yaml. ${VAR} and file:PATH in tokens and secrets are expanded: lookup gives the value
// of a variable. The error lists every problem, each with the page and the field.
func Parse(text []byte, lookup func(string) (string, bool)) (File, error) {
	var f File
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&f); errors.Is(err, io.EOF) {
		return File{}, errors.New(nothing)
	} else if err != nil {
		return File{}, fmt.Errorf("pages.yaml: %w", err)
	}
	var problems []error
	seen := map[string]bool{}
	for i := range f.Pages {
		p := &f.Pages[i]
		at := fmt.Sprintf("pages[%d]", i)
		if p.ID != "" {
			at += " (id " + p.ID + ")"
		}
		for _, problem := range p.complete(lookup) {
			problems = append(problems, fmt.Errorf("%s.%w", at, problem))
		}
		if p.ID != "" && seen[p.ID] {
			problems = append(problems, fmt.Errorf("%s.id: stands twice", at))
		}
		seen[p.ID] = true
	}
	if len(problems) > 0 {
		return File{}, fmt.Errorf("pages.yaml: %w", errors.Join(problems...))
	}
	return f, nil
}

// complete expands, sets defaults and names what is wrong, each problem beginning with the field.
func (p *Page) complete(lookup func(string) (string, bool)) (problems []error) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	expand := func(field string, s *Secret) {
		value, err := expandSecret(string(*s), lookup)
		if err != nil {
			bad("%s: %w", field, err)
		}
		*s = Secret(value)
	}
	expand("access_token", &p.AccessToken)
	expand("verify_token", &p.VerifyToken)
	for i := range p.AppSecrets {
		expand(fmt.Sprintf("app_secrets[%d]", i), &p.AppSecrets[i])
	}
	// A secret that is not set (the old one of a rotation that is over) does not sign; one must remain.
	p.AppSecrets = slices.DeleteFunc(p.AppSecrets, func(s Secret) bool { return s == "" })

	switch {
	case p.ID == "":
		bad("id: missing, expected the id of the page")
	case len(p.ID) > 64:
		bad("id: %d characters, expected at most 64", len(p.ID))
	}
	if p.AccessToken == "" {
		bad("access_token: missing, expected the page's token, ${VAR} or file:PATH")
	}
	if len(p.AppSecrets) == 0 {
		bad("app_secrets: none is set, expected at least one: without it no webhook can be verified")
	}
	setDefault(&p.Shop, "default")
	setDefault(&p.Timezone, "UTC")
	setDefault(&p.Locale, "en_US")
	if _, err := time.LoadLocation(p.Timezone); err != nil {
		bad("timezone: %q is not known, expected a name like Europe/Paris", p.Timezone)
	}
	if _, err := language.Parse(p.Locale); err != nil {
		bad("locale: %q is not known, expected a name like fr_FR", p.Locale)
	}
	if p.Currency != "" && !currencyCode.MatchString(p.Currency) {
		bad("currency: %q, expected an ISO 4217 code like EUR", p.Currency)
	}
	if p.SendsPerSecond == 0 {
		p.SendsPerSecond = DefaultSendsPerSecond
	}
	if p.MediaPerSecond == 0 {
		p.MediaPerSecond = DefaultMediaPerSecond
	}
	if p.SendsPerSecond < 0 || p.SendsPerSecond > maxSendsPerSecond {
		bad("sends_per_second: %g, expected more than 0 and at most %d", p.SendsPerSecond, maxSendsPerSecond)
	}
	if p.MediaPerSecond < 0 || p.MediaPerSecond > maxSendsPerSecond {
		bad("media_per_second: %g, expected more than 0 and at most %d", p.MediaPerSecond, maxSendsPerSecond)
	}
	if p.DailySends < 0 {
		bad("daily_sends: %d, expected 0 or more", p.DailySends)
	}
	if p.QuietHours != "" && !quietHours.MatchString(p.QuietHours) {
		bad("quiet_hours: %q, expected a span like 22:00-08:00", p.QuietHours)
	}
	return problems
}

var (
	currencyCode = regexp.MustCompile(`^[A-Z]{3}$`)
	quietHours   = regexp.MustCompile(`^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$`)
	variable     = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)
)

func setDefault(s *string, value string) {
	if *s == "" {
		*s = value
	}
}

// expandSecret reads file:PATH, or replaces each ${VAR}. The error never holds a value.
func expandSecret(s string, lookup func(string) (string, bool)) (string, error) {
	if path, ok := strings.CutPrefix(s, "file:"); ok {
		content, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		return strings.TrimSpace(string(content)), nil
	}
	var missing []string
	out := variable.ReplaceAllStringFunc(s, func(m string) string {
		value, ok := lookup(m[2 : len(m)-1])
		if !ok {
			missing = append(missing, m[2:len(m)-1])
		}
		return value
	})
	if len(missing) > 0 {
		return "", fmt.Errorf("the environment variable %s is not set", strings.Join(missing, ", "))
	}
	return out, nil
}

// Page finds a page by id.
func (f File) Page(id string) (Page, bool) {
	i := slices.IndexFunc(f.Pages, func(p Page) bool { return p.ID == id })
	if i < 0 {
		return Page{}, false
	}
	return f.Pages[i], true
}

// OfShop lists the pages that a shop's inventory events concern.
func (f File) OfShop(shop string) []Page {
	var found []Page
	for _, p := range f.Pages {
		if p.Shop == shop {
			found = append(found, p)
		}
	}
	return found
}

// SameApp lists the pages that share an app with this one, itself included: those with an app secret in common.
// What stops the app stops all of them.
func (f File) SameApp(id string) []Page {
	page, ok := f.Page(id)
	if !ok {
		return nil
	}
	var found []Page
	for _, p := range f.Pages {
		if slices.ContainsFunc(p.AppSecrets, func(s Secret) bool { return slices.Contains(page.AppSecrets, s) }) {
			found = append(found, p)
		}
	}
	return found
}
