package envelope

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onebell/onebell/pkg/fault"
)

// one reads the only element of a body.
func one(t *testing.T, body string) Element {
	t.Helper()
	elements, err := Read([]byte(body))
	if err != nil || len(elements) != 1 {
		t.Fatalf("%s: %d elements, %v", body, len(elements), err)
	}
	return elements[0]
}

// in puts an element into a body of page P.
func in(field, element string) string {
	return `{"object":"page","entry":[{"id":"P","time":1782900000350,"` + field + `":[` + element + `]}]}`
}

func TestElement(t *testing.T) {
	t.Parallel()
	const who = `"sender":{"id":"U"},"recipient":{"id":"P"},`
	// SHA-256 of the canonical forms, made with sha256sum.
	for _, c := range []struct {
		name, field, element string
		kind, person, id     string // an id that ends in ":" is followed by a hash
	}{
		{"message", Messaging, `{` + who + `"message":{"mid":"m1","text":"x"}}`, "message", "U", "message:P:m1"},
		{"message without mid", Messaging, `{` + who + `"message":{"text":"x"}}`, "message", "U", "message:P:"},
		{"message that is no object", Messaging, `{` + who + `"message":"x"}`, "message", "U", "message:P:"},
		{"mid that is no string", Messaging, `{` + who + `"message":{"mid":7}}`, "message", "U", "message:P:"},
		{"echo", Messaging, `{"sender":{"id":"P"},"recipient":{"id":"U"},"message":{"is_echo":true,"mid":"m1"}}`, "echo", "U", "echo:P:m1"},
		{"echo false", Messaging, `{` + who + `"message":{"is_echo":false,"mid":"m1"}}`, "message", "U", "message:P:m1"},
		{"edit has its message's mid", Messaging, `{` + who + `"message_edit":{"mid":"m1"}}`, "edit", "U", "edit:P:"},
		{"postback", Messaging, `{` + who + `"postback":{"mid":"m2","referral":{}}}`, "postback", "U", "postback:P:m2"},
		{"postback without mid", Messaging, `{` + who + `"postback":{}}`, "postback", "U", "postback:P:"},
		{"reaction has an echo's mid", Messaging, `{` + who + `"reaction":{"mid":"m1"}}`, "reaction", "U", "reaction:P:"},
		{"delivery", Messaging, `{` + who + `"delivery":{"watermark":1}}`, "delivery", "U", "delivery:P:"},
		{"read", Messaging, `{` + who + `"read":{"watermark":1}}`, "read", "U", "read:P:"},
		{"referral and lead", Messaging, `{` + who + `"referral":{},"lead":{}}`, "referral", "U", "referral:P:"},
		{"message null is no message", Messaging, `{` + who + `"message":null,"read":{"watermark":1}}`, "read", "U", "read:P:"},
		{"one-time opt-in", Messaging, `{` + who + `"optin":{"type":"one_time_notif_req","one_time_notif_token":"T"}}`, "optin", "U", "otn:P:T"},
		{"one-time opt-in beside a message", Messaging, `{` + who + `"message":{"mid":"m1"},"optin":{"type":"one_time_notif_req","one_time_notif_token":"T"}}`, "optin", "U", "otn:P:T"},
		{"one-time opt-in in handovers", Handovers, `{` + who + `"optin":{"type":"one_time_notif_req","one_time_notif_token":"T"}}`, "optin", "U", "otn:P:T"},
		{"one-time opt-in in standby", Standby, `{` + who + `"optin":{"type":"one_time_notif_req","one_time_notif_token":"T"}}`, "standby", "U", "standby:P:"},
		{"no token", Messaging, `{` + who + `"optin":{"type":"one_time_notif_req"}}`, "optin", "U", "optin:P:"},
		{"empty token", Messaging, `{` + who + `"optin":{"type":"one_time_notif_req","one_time_notif_token":""}}`, "optin", "U", "optin:P:"},
		{"token that is no string", Messaging, `{` + who + `"optin":{"type":"one_time_notif_req","one_time_notif_token":7}}`, "optin", "U", "optin:P:"},
		{"token of another type", Messaging, `{` + who + `"optin":{"type":"notification_messages","one_time_notif_token":"T"}}`, "optin", "U", "optin:P:"},
		{"names in another case are others", Messaging, `{` + who + `"Optin":{"type":"one_time_notif_req","one_time_notif_token":"T"}}`, "unknown", "U", "unknown:P:"},
		{"user_ref is no person", Messaging, `{"sender":{"user_ref":"x"},"recipient":{"id":"P"},"postback":{"mid":"m3"}}`, "postback", "", "postback:P:m3"},
		{"account linking", Messaging, `{` + who + `"account_linking":{}}`, "account_linking", "U", "account_linking:P:"},
		{"handover", Messaging, `{` + who + `"take_thread_control":{}}`, "handover", "U", "handover:P:"},
		{"roles", Messaging, `{"recipient":{"id":"P"},"app_roles":{}}`, "handover", "", "handover:P:"},
		{"policy", Messaging, `{"recipient":{"id":"P"},"policy_enforcement":{}}`, "policy", "", "policy:P:"},
		{"policy, older spelling", Messaging, `{"recipient":{"id":"P"},"policy-enforcement":{}}`, "policy", "", "policy:P:"},
		{"feedback", Messaging, `{` + who + `"messaging_feedback":{}}`, "feedback", "U", "feedback:P:"},
		{"order", Messaging, `{` + who + `"order":{}}`, "order", "U", "order:P:"},
		{"echo in standby", Standby, `{"sender":{"id":"P"},"recipient":{"id":"U"},"message":{"is_echo":true,"mid":"m1"}}`, "standby", "U", "standby:P:"},
		{"change", Changes, `{"field":"feed","value":{}}`, "change", "", "change:P:"},
		{"number as id", Messaging, `{"sender":{"id":73},"recipient":{"id":"P"},"read":{}}`, "read", "73", "read:P:"},
		{"id that is an object", Messaging, `{"sender":{"id":{}},"recipient":{"id":"P"},"read":{}}`, "read", "", "read:P:"},
		{"no object", Messaging, `7`, "unknown", "", "unknown:P:7902699be42c8a8e46fbbb4501726517e86b22c56a189f7625a6da49081b2451"},
		{"no object in standby", Standby, `null`, "unknown", "", "unknown:P:74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b"},
		{"empty object", Messaging, `{ }`, "unknown", "", "unknown:P:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},
		{"control characters", Messaging, `{"sender":{"id":"U\r\nX: y\u0000"},"read":{}}`, "read", "U__X: y_", "read:P:"},
		{"token that a header cannot hold", Messaging, `{` + who + `"optin":{"type":"one_time_notif_req","one_time_notif_token":" T"}}`, "optin", "U", "otn:P:639373a37762fc96549612b49e7092eafdda4d8e8e89d700a34051fec9d2e760"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := one(t, in(c.field, c.element))
			if e.Kind != c.kind || e.Person != c.person || e.Page != "P" || e.Field != c.field {
				t.Errorf("kind %q, person %q, page %q, field %q", e.Kind, e.Person, e.Page, e.Field)
			}
			if strings.HasSuffix(c.id, ":") {
				if rest, ok := strings.CutPrefix(e.ID, c.id); !ok || len(rest) != 64 {
					t.Errorf("id %q, expected %s and a hash", e.ID, c.id)
				}
			} else if e.ID != c.id {
				t.Errorf("id %q, expected %q", e.ID, c.id)
			}
			if string(e.Body) != c.element {
				t.Errorf("body %s", e.Body)
			}
			if got := e.EntryTime.Format(time.RFC3339Nano); got != "2026-07-01T10:00:00.35Z" {
				t.Errorf("entry time %s", got)
			}
			if e.OneTime != strings.HasPrefix(e.ID, "otn:") {
				t.Errorf("one-time %v", e.OneTime)
			}
		})
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("9", maxID+1)
	for _, c := range []struct{ entry, page string }{
		{`"id":"P",`, "P"},
		{`"id":104200000000017,`, "104200000000017"},
		{`"id":null,`, "R"},
		{`"id":"",`, "R"},
		{``, "R"},
		{`"id":"P.1>",`, "P.1>"},
		{`"id":"` + long[1:] + `",`, long[1:]},
		{`"id":"` + long + `",`, digest([]byte(long))},
	} {
		e := one(t, `{"entry":[{`+c.entry+`"messaging":[{"sender":{"id":"U"},"recipient":{"id":"R"},"read":{}}]}]}`)
		if e.Page != c.page {
			t.Errorf("%.60s: page %q, expected %q", c.entry, e.Page, c.page)
		}
	}
	if e := one(t, `{"entry":[{"messaging":[{"sender":{"id":"S"},"recipient":{"id":"U"},"message":{"is_echo":true}}]}]}`); e.Page != "S" || e.Person != "U" {
		t.Errorf("echo: page %q, person %q", e.Page, e.Person)
	}
	if e := one(t, `{"entry":[{"changes":[{}]}]}`); e.Page != NoPage {
		t.Errorf("page %q", e.Page)
	}
}

func TestEntryTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ time, want string }{
		{`1782900000350`, "2026-07-01T10:00:00.35Z"},
		{`1782900000`, "2026-07-01T10:00:00Z"},
		{`"1782900000350"`, "2026-07-01T10:00:00.35Z"},
		{`"1782900000"`, "2026-07-01T10:00:00Z"},
		{`1.78290000035e12`, "2026-07-01T10:00:00.35Z"},
		{`99999999999`, "5138-11-16T09:46:39Z"},
		{`100000000000`, "1973-03-03T09:46:40Z"},
		{`0`, "1970-01-01T00:00:00Z"},
		{`-1`, ""},
		{`1e300`, ""},
		{`253402300800000`, ""},
		{`"soon"`, ""},
		{`"NaN"`, ""},
		{`null`, ""},
		{`{}`, ""},
	} {
		e := one(t, `{"entry":[{"time":`+c.time+`,"messaging":[{}]}]}`)
		got := ""
		if !e.EntryTime.IsZero() {
			got = e.EntryTime.Format(time.RFC3339Nano)
		}
		if got != c.want {
			t.Errorf("%s: %q, expected %q", c.time, got, c.want)
		}
	}
}

func TestSameEventSameID(t *testing.T) {
	t.Parallel()
	a := one(t, in(Messaging, `{"read":{"watermark":1782900009000},"sender":{"id":"U<>"}}`))
	b := one(t, in(Messaging, "{ \"sender\" : {\"id\":\"\\u0055<>\"},\n\"read\":{\"watermark\":1782900009000}}"))
	// printf '{"read":{"watermark":1782900009000},"sender":{"id":"U<>"}}' | sha256sum
	const want = "read:P:f2b4802d5db8b37480ae9e6d43b650241e390c3b106d889f3b5d9af3928a806f"
	if a.ID != want || b.ID != want {
		t.Errorf("%s and %s, expected %s", a.ID, b.ID, want)
	}
	c := one(t, in(Messaging, `{"read":{"watermark":1782900009000.0},"sender":{"id":"U<>"}}`))
	if c.ID == a.ID {
		t.Error("numbers are not kept as they are written")
	}
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	good := `{"id":"P","messaging":[{"read":{}}]}`
	for _, c := range []struct {
		body, reason string
		elements     int
	}{
		{``, ReasonBadJSON, 0},
		{`{"object":"page","entry":[]} x`, ReasonBadJSON, 0},
		{`{"object":"page","entry":[]}{}`, ReasonBadJSON, 0},
		{"\ufeff{}", ReasonBadJSON, 0},
		{strings.Repeat("[", 100_000), ReasonTooDeep, 0},
		{`{"entry":[{"messaging":[` + strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001) + `]}]}`, ReasonTooDeep, 0},
		{`{"entry":[{"messaging":[` + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000) + `]}]}`, "", 1},
		{`[]`, ReasonNotObject, 0},
		{`"page"`, ReasonNotObject, 0},
		{`null`, ReasonNotObject, 0},
		{`{"object":7,"entry":[` + good + `]}`, ReasonBadShape, 1},
		{`{"object":"page","entry":{}}`, ReasonBadShape, 0},
		{`{"object":"page","entry":null}`, ReasonBadShape, 0},
		{`{"object":"page","entry":[7,` + good + `]}`, ReasonBadShape, 1},
		{`{"object":"page","entry":[{"messaging":{}},` + good + `]}`, ReasonBadShape, 1},
		{`{"object":"page","entry":[{"changes":"x","standby":[{}]}]}`, ReasonBadShape, 1},
		{`{}`, "", 0},
		{`{"object":"page"}`, "", 0},
		{`{"object":"page","entry":[]}`, "", 0},
		{`{"object":"page","entry":[{}]}`, "", 0},
		{`{"entry":[` + good + `],"entry":[` + good + `]}`, "", 2},
	} {
		elements, err := Read([]byte(c.body))
		reason := ""
		if err != nil {
			reason = fault.Of(err).Reason
		}
		if reason != c.reason || len(elements) != c.elements {
			t.Errorf("%.80s: reason %q (%v), %d elements", c.body, reason, err, len(elements))
		}
	}
}

// FuzzEnvelope: whatever the body, reading it does not panic, no element is lost or changed, and every header is clean.
func FuzzEnvelope(f *testing.F) {
	files, err := filepath.Glob("../../testdata/webhooks*/*.json")
	if err != nil || len(files) < 80 {
		f.Fatalf("%d fixtures, %v", len(files), err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		elements, err := Read(body)
		if err != nil && (fault.Of(err).Kind != fault.Invalid || fault.Of(err).Reason == "") {
			t.Fatalf("no reason: %v", err)
		}
		if !json.Valid(body) && err == nil {
			t.Fatal("what is no JSON was read")
		}
		at := 0
		for _, e := range elements {
			if !json.Valid(e.Body) || !bytes.Contains(body, e.Body) {
				t.Fatalf("changed: %q", e.Body)
			}
			at += len(e.Body)
			for _, header := range []string{e.Page, e.Person, e.ID} {
				if strings.ContainsAny(header, "\r\n\x00") || len(header) > 2*maxID+100 || strings.TrimSpace(header) != header {
					t.Fatalf("header %q", header)
				}
			}
			if e.Page == "" || e.Kind == "" || e.OneTime && e.Kind != KindOptin {
				t.Fatalf("%+v", e)
			}
		}
		if at > len(body) {
			t.Fatal("more came out than went in")
		}
		if want, ok := simply(body); ok && want != len(elements) {
			t.Fatalf("%d elements, expected %d", len(elements), want)
		}
	})
}

// simply counts the elements of a well-formed body without doubled names another way.
func simply(body []byte) (n int, ok bool) {
	var top map[string]any
	if json.Unmarshal(body, &top) != nil || bytes.Count(body, []byte(`"`)) != countQuotes(top) {
		return 0, false
	}
	entries, _ := top["entry"].([]any)
	for _, e := range entries {
		entry, _ := e.(map[string]any)
		for _, name := range arrays {
			elements, _ := entry[name].([]any)
			n += len(elements)
		}
	}
	return n, true
}

// countQuotes counts the quotes of the strings in v when written without any escaped one: fewer than the body's tell that
// a name stood twice.
func countQuotes(v any) (n int) {
	switch v := v.(type) {
	case string:
		return 2 + strings.Count(v, `"`)
	case []any:
		for _, item := range v {
			n += countQuotes(item)
		}
	case map[string]any:
		for name, item := range v {
			n += 2 + strings.Count(name, `"`) + countQuotes(item)
		}
	}
	return n
}
