package envelope

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// Kinds that are not in the table below.
const (
	KindEcho    = "echo"
	KindOptin   = "optin"
	KindStandby = "standby"
	KindChange  = "change"
	KindUnknown = "unknown"
)

// kinds says which key makes an element which kind. The first that is there decides: an opt-in before all else, because
// a permission that is missed cannot be had again, and a referral last, because others carry one along.
var kinds = []struct{ key, kind string }{
	{"optin", KindOptin},
	{"message", "message"},
	{"message_edit", "edit"},
	{"postback", "postback"},
	{"delivery", "delivery"},
	{"read", "read"},
	{"reaction", "reaction"},
	{"account_linking", "account_linking"},
	{"pass_thread_control", "handover"},
	{"take_thread_control", "handover"},
	{"request_thread_control", "handover"},
	{"app_roles", "handover"},
	{"policy_enforcement", "policy"},
	{"policy-enforcement", "policy"}, // the older spelling
	{"response_feedback", "feedback"},
	{"messaging_feedback", "feedback"},
	{"order", "order"},
	{"referral", "referral"},
}

// element reads one element of the array `name` of an entry.
func element(name, entryID string, when time.Time, raw []byte) Element {
	e := Element{Field: name, Kind: KindUnknown, Page: entryID, EntryTime: when, Body: raw}
	content := object(raw)
	message := object(content["message"])
	echo := string(message["is_echo"]) == "true"
	sender, recipient := partyID(content["sender"]), partyID(content["recipient"])
	if echo {
		sender, recipient = recipient, sender // the page is the sender
	}
	e.Person = headerText(sender)
	if e.Page == "" {
		e.Page = recipient
	}
	if e.Page = headerText(e.Page); e.Page == "" {
		e.Page = NoPage
	}
	if content != nil {
		e.Kind = kindOf(name, content, echo)
	}

	mid, token := "", ""
	switch e.Kind {
	case "message", KindEcho:
		mid = text(message["mid"])
	case "postback":
		mid = text(object(content["postback"])["mid"])
	case KindOptin:
		if optin := object(content["optin"]); text(optin["type"]) == "one_time_notif_req" {
			token = text(optin["one_time_notif_token"])
		}
	}
	e.OneTime = token != ""
	switch {
	case e.OneTime:
		e.ID = "otn:" + e.Page + ":" + idPart(token)
	case mid != "":
		e.ID = e.Kind + ":" + e.Page + ":" + idPart(mid)
	default:
		e.ID = e.Kind + ":" + e.Page + ":" + digest(canonical(raw))
	}
	return e
}

func kindOf(name string, content map[string]json.RawMessage, echo bool) string {
	switch name {
	case Standby:
		return KindStandby
	case Changes:
		return KindChange
	}
	for _, k := range kinds {
		if value, ok := content[k.key]; !ok || typeOf(value) == "null" {
			continue
		}
		if k.key == "message" && echo {
			return KindEcho
		}
		return k.kind
	}
	return KindUnknown
}

// partyID is the id in a sender or recipient. A user_ref is no person: it names a browser, not somebody to write to.
func partyID(raw json.RawMessage) string { return idText(object(raw)["id"]) }

// idText is an id, which some senders write as a number; empty when it is neither.
func idText(raw json.RawMessage) string {
	if typeOf(raw) == "number" {
		return string(bytes.TrimSpace(raw))
	}
	return text(raw)
}

// text is a JSON string; empty when it is none.
func text(raw json.RawMessage) string {
	var s string
	if typeOf(raw) != "string" || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// maxID bounds an id in a header, in bytes. Real ones have at most 64; what is longer is replaced by its hash, so that
// no body, however odd, makes a message larger than the server takes.
const maxID = 1024

// headerText is an id as a header can hold it: control characters become "_", spaces around it go.
func headerText(id string) string {
	id = strings.TrimSpace(id)
	if len(id) > maxID {
		return digest([]byte(id))
	}
	if strings.IndexFunc(id, control) < 0 {
		return id
	}
	return strings.Map(func(r rune) rune {
		if control(r) {
			return '_'
		}
		return r
	}, id)
}

// idPart is a token or mid as part of a dedupe id: itself, or, where a header could not hold it unchanged, its hash: two
// tokens must never become one.
func idPart(s string) string {
	if len(s) > maxID || s != headerText(s) {
		return digest([]byte(s))
	}
	return s
}

// control tells the characters that a header cannot hold. 0x80 to 0x9f are control characters of Unicode.
func control(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// canonical is JSON with keys sorted, no whitespace, and numbers as they were written: the same event serialised
// another way has the same form.
func canonical(raw []byte) []byte {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return raw
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if enc.Encode(v) != nil {
		return raw
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

const (
	// secondsBelow tells seconds from milliseconds: 10^11 ms is 1973, 10^11 s is the year 5138.
	secondsBelow = 1e11
	// lastInstant is the end of the year 9999 in milliseconds, the last that RFC 3339 can write.
	lastInstant = 253402300799999
)

// instant is a time of the platform: a number or a string of digits, in seconds or milliseconds.
func instant(raw json.RawMessage) (time.Time, bool) {
	s := strings.TrimSpace(idText(raw))
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || !(f >= 0 && f <= lastInstant) {
			return time.Time{}, false
		}
		if f < secondsBelow {
			f *= 1000
		}
		return time.UnixMilli(int64(f)).UTC(), true
	}
	if ms < 0 || ms > lastInstant {
		return time.Time{}, false
	}
	if ms < secondsBelow {
		ms *= 1000
	}
	return time.UnixMilli(ms).UTC(), true
}
