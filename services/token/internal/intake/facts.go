// Package intake reads facts from the streams and applies them to the ledger: opt-ins, outcomes, what was said about people,
// and what people did. The same functions serve the live consumers and a rebuild. It grants nothing.
package intake

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/onebell/onebell/pkg/fault"
	outcomev1 "github.com/onebell/onebell/proto/onebell/outcome/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/proto/verdict"
	"github.com/onebell/onebell/services/token/internal/ledger"
	"github.com/onebell/onebell/services/token/internal/topic"
)

// Life is how long a permission lasts: the platform says within a year of the opt-in; a day is kept as a margin.
const Life = 364 * 24 * time.Hour

// MaxToken bounds a token, in bytes. The platform's length is not known; those seen are far below.
const MaxToken = 4096

// optinElement is what Onebell needs of the platform's opt-in.
type optinElement struct {
	Timestamp any `json:"timestamp"` // milliseconds or seconds, number or string
	Optin     struct {
		Payload *string `json:"payload"`
		Token   string  `json:"one_time_notif_token"`
	} `json:"optin"`
}

// Optin reads a message of OPTINS. rules maps foreign payloads. stored is when the message was stored. The error is a fault
// of kind Invalid: reading it again will not help.
func Optin(h nats.Header, body []byte, stored time.Time, rules func(string) (string, bool)) (ledger.Optin, error) {
	if h.Get(topology.HeaderKind) == topology.KindRecord {
		var item tokenv1.RecordItem
		if err := proto.Unmarshal(body, &item); err != nil {
			return ledger.Optin{}, fault.New(fault.Invalid, "bad_record", fmt.Errorf("not a RecordItem: %w", err))
		}
		return FromItem(&item, stored)
	}
	page, psid := h.Get(topology.HeaderPage), h.Get(topology.HeaderPerson)
	var e optinElement
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if err := dec.Decode(&e); err != nil {
		return ledger.Optin{}, fault.New(fault.Invalid, "bad_json", fmt.Errorf("not an opt-in: %w", err))
	}
	switch {
	case page == "" || len(page) > 64:
		return ledger.Optin{}, fault.New(fault.Invalid, "no_page", errors.New("header Onebell-Page: expected a page id of at most 64 characters"))
	case psid == "" || len(psid) > 64:
		return ledger.Optin{}, fault.New(fault.Invalid, "no_person", errors.New("header Onebell-Person: expected a person's id of at most 64 characters"))
	case e.Optin.Token == "" || len(e.Optin.Token) > MaxToken:
		return ledger.Optin{}, fault.New(fault.Invalid, "no_token", fmt.Errorf("one_time_notif_token: %d bytes, expected 1 to %d", len(e.Optin.Token), MaxToken))
	}
	var payload string
	if e.Optin.Payload != nil {
		payload = *e.Optin.Payload
	}
	at := optinTime(e.Timestamp, h.Get(topology.HeaderReceivedAt), stored)
	o := ledger.Optin{PageID: page, PSID: psid, Token: e.Optin.Token, OptedInAt: at, ExpiresAt: at.Add(Life)}
	o.Topic, o.Wish = topic.Of(payload, rules)
	return o, nil
}

// FromItem reads an item of Record. The error is a fault of kind Invalid that names the field.
func FromItem(item *tokenv1.RecordItem, now time.Time) (ledger.Optin, error) {
	bad := func(format string, args ...any) (ledger.Optin, error) {
		return ledger.Optin{}, fault.New(fault.Invalid, "bad_record", fmt.Errorf(format, args...))
	}
	o := ledger.Optin{PageID: item.GetPageId(), PSID: item.GetPsid(), Token: item.GetToken(), Topic: item.GetTopic(), Wish: item.GetWish(), OptedInAt: now}
	switch {
	case o.PageID == "" || len(o.PageID) > 64:
		return bad("page_id: expected 1 to 64 characters")
	case o.PSID == "" || len(o.PSID) > 64:
		return bad("psid: expected 1 to 64 characters")
	case item.GetKind() != tokenv1.Kind_KIND_OTN:
		return bad("kind: expected KIND_OTN")
	case o.Token == "" || len(o.Token) > MaxToken:
		return bad("token: %d bytes, expected 1 to %d", len(o.Token), MaxToken)
	case !topic.Valid(o.Topic):
		return bad("topic: expected <kind>:<name> with a kind of %v, at most %d bytes", topic.Kinds, topic.MaxLen)
	case o.Wish.GetQty() < 0:
		return bad("wish.qty: is negative")
	case o.Wish.GetBelow() != nil && !topic.ValidMoney(o.Wish.GetBelow()):
		return bad("wish.below: expected an amount above zero like 49.90 and a currency like EUR")
	}
	if t := item.GetOptedInAt(); t != nil {
		o.OptedInAt = t.AsTime()
	}
	if o.OptedInAt.After(now.Add(24 * time.Hour)) {
		return bad("opted_in_at: lies in the future")
	}
	o.ExpiresAt = o.OptedInAt.Add(Life)
	if t := item.GetExpiresAt(); t != nil {
		o.ExpiresAt = t.AsTime()
	}
	return o, nil
}

// optinTime is the platform's time; when it is missing or makes no sense (before the platform had opt-ins, or in the
// future), the time of receipt.
func optinTime(timestamp any, received string, stored time.Time) time.Time {
	if at, err := time.Parse(time.RFC3339, received); err == nil {
		stored = at
	}
	var n int64
	switch t := timestamp.(type) {
	case json.Number:
		n, _ = t.Int64()
	case string:
		n, _ = strconv.ParseInt(t, 10, 64)
	}
	if n < 1e11 { // seconds
		n *= 1000
	}
	at := time.UnixMilli(n)
	if at.Year() < 2020 || at.After(stored.Add(time.Hour)) {
		return stored
	}
	return at
}

// Outcome reads a message of OUTCOMES as what it does to the permission; false when it does nothing.
func Outcome(body []byte) (ledger.Settlement, bool, error) {
	var o outcomev1.Outcome
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, &o); err != nil {
		return ledger.Settlement{}, false, fault.New(fault.Invalid, "bad_outcome", fmt.Errorf("not an Outcome: %w", err))
	}
	s := ledger.Settlement{
		PageID: o.GetPageId(), PermissionID: o.GetPermissionId(), SendID: o.GetSendId(), Fence: o.GetFence(), MessageID: o.GetMessageId(),
	}
	if o.GetNotBefore() != nil {
		s.NotBefore = o.GetNotBefore().AsTime()
	}
	switch verdict.Effects[o.GetVerdict()] {
	case verdict.Spends:
		s.Effect = ledger.Spend
	case verdict.Voids:
		s.Effect = ledger.Void
	case verdict.Expires:
		s.Effect = ledger.Expire
	case verdict.Clouds:
		s.Effect = ledger.Cloud
	case verdict.Releases:
		if !o.GetReleased() {
			return s, false, nil
		}
		s.Effect = ledger.Release
	case verdict.Nothing:
		return s, false, nil
	}
	return s, true, nil
}

// Tries reads a message of TRIES.
func Tries(body []byte) ([]ledger.Settlement, error) {
	var t outcomev1.Tries
	if err := proto.Unmarshal(body, &t); err != nil {
		return nil, fault.New(fault.Invalid, "bad_tries", fmt.Errorf("not Tries: %w", err))
	}
	all := make([]ledger.Settlement, 0, len(t.GetTries()))
	for _, try := range t.GetTries() {
		all = append(all, ledger.Settlement{
			PageID: t.GetPageId(), PermissionID: try.GetPermissionId(), SendID: try.GetSendId(), Fence: try.GetFence(), Effect: ledger.Try,
		})
	}
	return all, nil
}

// PersonFact reads a message of PEOPLE.
func PersonFact(body []byte) (*tokenv1.PersonFact, error) {
	var f tokenv1.PersonFact
	if err := proto.Unmarshal(body, &f); err != nil {
		return nil, fault.New(fault.Invalid, "bad_person_fact", fmt.Errorf("not a PersonFact: %w", err))
	}
	return &f, nil
}
