package rig

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/onebell/onebell/proto/ids"
)

// Page is a page of the shop under test, with the secrets that no log line may show.
type Page struct {
	ID, Shop, AccessToken, AppSecret, VerifyToken string
	SendsPerSecond                                int // 0: the default
}

// ThePage is the page that most tests use.
var ThePage = Page{
	ID: "104200000000017", Shop: "wine-and-co",
	AccessToken: "EAAB-page-access-token-8d1f", AppSecret: "app-secret-5c7e", VerifyToken: "verify-token-a1b2",
}

// tokenMark begins every one-time token of these tests, so that one is recognised wherever it turns up.
const tokenMark = "onetime."

// Token is a person's one-time token.
func Token(name string) string { return tokenMark + name }

// Secrets are the texts that no log line may hold: secrets of the page, one-time tokens, words of messages.
func Secrets() []string {
	p := ThePage
	return []string{p.AccessToken, p.AppSecret, p.VerifyToken, SealKey, tokenMark, "oysters", "long evenings", "is back in stock", "now costs", "can be bought"}
}

// SealKey seals tokens in the programs under test.
const SealKey = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

// At is the page with another pace.
func (p Page) At(sendsPerSecond int) Page {
	p.SendsPerSecond = sendsPerSecond
	return p
}

// Sign is the value of X-Hub-Signature-256 for a body.
func (p Page) Sign(body []byte) string { return "sha256=" + mac(p.AppSecret, body) }

// Proof is the appsecret_proof of its access token.
func (p Page) Proof() string { return mac(p.AppSecret, []byte(p.AccessToken)) }

func mac(key string, message []byte) string {
	h := hmac.New(sha256.New, []byte(key))
	h.Write(message)
	return hex.EncodeToString(h.Sum(nil))
}

// SendID is the id of the message to a person on a topic for an event of the page's shop.
func (p Page) SendID(psid, token, topic, eventID string) string {
	return ids.Send(ids.Alert(p.Shop, topic, eventID), ids.Permission(p.ID, psid, token))
}

// PagesFile is the text of a pages.yaml.
func PagesFile(pages ...Page) string {
	var b strings.Builder
	b.WriteString("pages:\n")
	for _, p := range pages {
		fmt.Fprintf(&b, "  - id: %q\n    shop: %q\n    name: %q\n", p.ID, p.Shop, "Page "+p.ID)
		fmt.Fprintf(&b, "    access_token: %q\n    app_secrets: [%q]\n    verify_token: %q\n", p.AccessToken, p.AppSecret, p.VerifyToken)
		fmt.Fprintf(&b, "    timezone: Europe/Paris\n    locale: fr_FR\n    currency: EUR\n")
		if p.SendsPerSecond > 0 {
			fmt.Fprintf(&b, "    sends_per_second: %d\n", p.SendsPerSecond)
		}
	}
	return b.String()
}

// RulesFile is the rules.yaml of the shop: two segments and a fallback for stock, one text each for price and sale.
const RulesFile = `
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
    messages:
      - segment: white-wine
        text: "{{.product.title}} is back, and it goes well with oysters. {{.available}} left."
        buttons: [{url: "{{.product.url}}", title: "Buy now"}]
      - segment: red-wine
        text: "{{.product.title}} is back, for long evenings."
      - text: "{{.product.title}} is back in stock."
        buttons: [{url: "{{.product.url}}", title: "Have a look"}]
  - topic: price
    min_drop_percent: 5
    messages:
      - text: "{{.product.title}} now costs {{.price.amount}} {{.price.currency}}."
  - topic: sale
    messages:
      - text: "{{.product.title}} can be bought now."
`
