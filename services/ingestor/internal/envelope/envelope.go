// Package envelope opens a webhook body: which elements it holds, and for each its page, person, kind and the id under
// which it is stored once. It is pure: no I/O, no clock, and it changes no byte of an element. It verifies no signature.
package envelope

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/onebell/onebell/pkg/fault"
)

// The arrays of an entry that hold elements, in the order in which they are read.
const (
	Messaging = "messaging"
	Standby   = "standby"
	Handovers = "messaging_handovers" // read like messaging
	Changes   = "changes"
)

var arrays = []string{Messaging, Standby, Handovers, Changes}

// Reasons why a body is kept in the dead letters.
const (
	ReasonBadJSON   = "bad_json"      // no JSON, or something behind it
	ReasonTooDeep   = "too_deep"      // nested deeper than encoding/json goes, 10,000 levels
	ReasonNotObject = "not_an_object" // JSON, but no object
	ReasonBadShape  = "bad_shape"     // object, entry or an array of elements has another type than expected
)

// NoPage stands for the page where the body names none.
const NoPage = "none"

// Element is one event of a webhook body.
type Element struct {
	Field     string    // the array it came in
	Kind      string    // one of the kinds of the contract, section C
	Page      string    // entry.id, else recipient.id (sender.id for echoes), else NoPage
	Person    string    // page-scoped id; empty: no person
	EntryTime time.Time // zero: the entry has none
	ID        string    // dedupe id: the same event twice has the same
	OneTime   bool      // a one-time opt-in with its token: a permission
	Body      []byte    // the element's JSON, byte for byte as received
}

// Read gives the elements of a body in order. The error, a fault.Invalid with one of the reasons above, says that the
// body, or a part of it, could not be read; the elements are those that could.
func Read(body []byte) ([]Element, error) {
	if err := check(body); err != nil {
		return nil, err
	}
	top, ok := fields(body)
	if !ok {
		return nil, unreadable(ReasonNotObject, "expected a JSON object, got %s", typeOf(body))
	}
	var r reader
	for _, f := range top {
		switch f.name {
		case "object":
			if typeOf(f.value) != "string" {
				r.wrong("object", "a string", f.value)
			}
		case "entry":
			r.entries(f.value)
		}
	}
	return r.elements, r.first
}

// check refuses what is no JSON: also with something behind it, which a json.Decoder would let pass.
func check(body []byte) error {
	if json.Valid(body) {
		return nil
	}
	var any json.RawMessage
	err := json.Unmarshal(body, &any)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) && strings.HasSuffix(syntax.Error(), "exceeded max depth") { // it has no type of its own
		return unreadable(ReasonTooDeep, "nested too deep at byte %d", syntax.Offset)
	}
	if syntax != nil {
		return unreadable(ReasonBadJSON, "%v at byte %d", err, syntax.Offset)
	}
	return unreadable(ReasonBadJSON, "not JSON: %v", err)
}

func unreadable(reason, format string, args ...any) error {
	return fault.New(fault.Invalid, reason, fmt.Errorf(format, args...))
}

// reader collects elements and remembers the first thing of a wrong type: one odd entry never costs the others.
type reader struct {
	elements []Element
	first    error
}

func (r *reader) wrong(at, expected string, got []byte) {
	if r.first == nil {
		r.first = unreadable(ReasonBadShape, "%s: expected %s, got %s", at, expected, typeOf(got))
	}
}

func (r *reader) entries(raw []byte) {
	entries, ok := list(raw)
	if !ok {
		r.wrong("entry", "an array", raw)
		return
	}
	for i, raw := range entries {
		at := fmt.Sprintf("entry[%d]", i)
		content, ok := fields(raw)
		if !ok {
			r.wrong(at, "an object", raw)
			continue
		}
		r.entry(at, content)
	}
}

func (r *reader) entry(at string, content []field) {
	var id string
	var when time.Time
	for _, f := range content {
		switch f.name {
		case "id":
			id = idText(f.value)
		case "time":
			when, _ = instant(f.value)
		}
	}
	for _, name := range arrays {
		for _, f := range content {
			if f.name != name {
				continue
			}
			elements, ok := list(f.value)
			if !ok {
				r.wrong(at+"."+name, "an array", f.value)
				continue
			}
			for _, raw := range elements {
				r.elements = append(r.elements, element(name, id, when, raw))
			}
		}
	}
}

// field is a member of an object.
type field struct {
	name  string
	value json.RawMessage
}

// fields lists the members of an object of valid JSON. A name that stands twice is listed twice, so that of two entry
// arrays neither is lost; encoding/json would keep the last.
func fields(raw []byte) ([]field, bool) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return nil, false
	}
	var all []field
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, false
		}
		f := field{}
		f.name, _ = name.(string)
		if err := dec.Decode(&f.value); err != nil {
			return nil, false
		}
		all = append(all, f)
	}
	return all, true
}

func list(raw []byte) ([]json.RawMessage, bool) {
	var all []json.RawMessage
	if typeOf(raw) != "array" || json.Unmarshal(raw, &all) != nil {
		return nil, false
	}
	return all, true
}

// object reads an object by exact names (a struct's fields would match in any case); nil when it is none.
func object(raw []byte) map[string]json.RawMessage {
	var all map[string]json.RawMessage
	if typeOf(raw) != "object" || json.Unmarshal(raw, &all) != nil {
		return nil
	}
	return all
}

// typeOf names the type of valid JSON; "nothing" where there is none.
func typeOf(raw []byte) string {
	raw = bytes.TrimLeft(raw, " \t\r\n")
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '{':
		return "object"
	case '[':
		return "array"
	case '"':
		return "string"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	return "number"
}
