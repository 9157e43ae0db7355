package topic

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
)

// maxJSON bounds a payload that is read as JSON, in bytes: what may be needed of it fits many times over.
const maxJSON = 8192

// parseJSON reads {"topic":"stock:SKU","qty":2,"below":"49.90 EUR"} or {"sku":"X"}, which means stock:X. The topic is
// written as in a plain payload, a sku as it is; a wish stands in one place only. Other keys are ignored. Names are taken to the
// letter: "SKU" is another key than "sku".
func parseJSON(payload string) (string, *tokenv1.Wish, bool) {
	if len(payload) > maxJSON || !strings.HasPrefix(strings.TrimLeft(payload, " \t\r\n"), "{") || !utf8.ValidString(payload) {
		return "", nil, false
	}
	var o map[string]json.RawMessage
	if json.Unmarshal([]byte(payload), &o) != nil {
		return "", nil, false
	}
	topic, wish, ok := topicOf(o)
	// U+FFFD stands for what could not be read, half a surrogate pair: two such names must not become one.
	if !ok || strings.ContainsRune(topic, utf8.RuneError) {
		return "", nil, false
	}
	own, ok := wishOf(o)
	switch {
	case !ok || own != nil && wish != nil:
		return "", nil, false
	case own != nil:
		wish = own
	}
	return topic, wish, true
}

func topicOf(o map[string]json.RawMessage) (string, *tokenv1.Wish, bool) {
	if raw, named := o["topic"]; named {
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return "", nil, false
		}
		return parse(s)
	}
	raw, named := o["sku"]
	if !named {
		return "", nil, false
	}
	topic := "stock:" + word(raw)
	return topic, nil, Valid(topic)
}

func wishOf(o map[string]json.RawMessage) (*tokenv1.Wish, bool) {
	var wish tokenv1.Wish
	if raw, named := o["qty"]; named {
		qty, err := strconv.ParseInt(word(raw), 10, 64)
		if err != nil || qty <= 0 {
			return nil, false
		}
		wish.Qty = qty
	}
	if raw, named := o["below"]; named {
		if wish.Below = parseMoney(word(raw)); wish.Below == nil {
			return nil, false
		}
	}
	if wish.Qty == 0 && wish.Below == nil {
		return nil, true
	}
	return &wish, true
}

var digits = regexp.MustCompile(`^[0-9]{1,32}$`)

// word is a JSON string, or a whole number as it is written; empty when it is neither.
func word(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	if digits.Match(raw) {
		return string(raw)
	}
	return ""
}
