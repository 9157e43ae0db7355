// Package topic reads opt-in payloads: what a person asked to hear about, and on which condition. Payloads are hostile
// input; nothing is refused, for a refused opt-in would be lost. It keeps no state.
package topic

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
)

// Kinds are the topic kinds.
var Kinds = []string{"stock", "price", "sale", "custom"}

// MaxLen bounds a topic, in bytes.
const MaxLen = 256

// Of gives the topic of a payload: `<kind>:<name>[?<query>]` is the topic itself, then the payload rules are asked, then it is
// read as JSON (see parseJSON), and what fits none of them is kept as custom:<payload>.
func Of(payload string, rules func(string) (string, bool)) (topic string, wish *tokenv1.Wish) {
	if topic, wish, ok := parse(payload); ok {
		return topic, wish
	}
	if mapped, ok := rules(payload); ok {
		if topic, wish, ok := parse(mapped); ok {
			return topic, wish
		}
	}
	if topic, wish, ok := parseJSON(payload); ok {
		return topic, wish
	}
	return "custom:" + keep(payload), nil
}

// Valid tells whether a string is a topic as it stands in the ledger.
func Valid(s string) bool {
	kind, name, ok := strings.Cut(s, ":")
	return ok && slices.Contains(Kinds, kind) && name != "" && len(s) <= MaxLen && clean(name)
}

func parse(payload string) (string, *tokenv1.Wish, bool) {
	kind, rest, ok := strings.Cut(payload, ":")
	if !ok || !slices.Contains(Kinds, kind) {
		return "", nil, false
	}
	escaped, query, _ := strings.Cut(rest, "?")
	name, err := url.PathUnescape(escaped)
	if err != nil || !Valid(kind+":"+name) {
		return "", nil, false
	}
	wish, ok := parseWish(query)
	return kind + ":" + name, wish, ok
}

var money = regexp.MustCompile(`^(\d{1,12}(?:\.\d{1,6})?) ([A-Z]{3})$`)

// parseMoney reads <amount> <ISO 4217>, the amount above zero; nil when it is something else.
func parseMoney(s string) *tokenv1.Money {
	m := money.FindStringSubmatch(s)
	if m == nil || strings.Trim(m[1], "0.") == "" {
		return nil
	}
	return &tokenv1.Money{Amount: m[1], Currency: m[2]}
}

// ValidMoney tells whether an amount is above zero, with at most six decimals, in a currency with an ISO 4217 code.
func ValidMoney(m *tokenv1.Money) bool {
	return parseMoney(m.GetAmount()+" "+m.GetCurrency()) != nil
}

// parseWish reads qty=<positive integer> and below=<amount> <ISO 4217>; unknown keys are ignored.
func parseWish(query string) (*tokenv1.Wish, bool) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, false
	}
	var wish tokenv1.Wish
	if values.Has("qty") {
		qty, err := strconv.ParseInt(values.Get("qty"), 10, 64)
		if err != nil || qty <= 0 {
			return nil, false
		}
		wish.Qty = qty
	}
	if values.Has("below") {
		if wish.Below = parseMoney(values.Get("below")); wish.Below == nil {
			return nil, false
		}
	}
	if wish.Qty == 0 && wish.Below == nil {
		return nil, true
	}
	return &wish, true
}

func clean(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// keep is the payload as a topic can hold it. What cannot stand as it is gets a hash of the whole, so that two different
// payloads never share a topic.
func keep(payload string) string {
	const prefix = len("custom:")
	if payload != "" && clean(payload) && prefix+len(payload) <= MaxLen {
		return payload
	}
	sum := sha256.Sum256([]byte(payload))
	short := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(payload, "_"))
	for len(short) > 64 {
		_, size := utf8.DecodeLastRuneInString(short)
		short = short[:len(short)-size]
	}
	if payload == "" {
		return ""
	}
	return short + "~" + hex.EncodeToString(sum[:8])
}
