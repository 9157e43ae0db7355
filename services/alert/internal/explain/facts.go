package explain

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/onebell/onebell/proto/ids"
	alertv1 "github.com/onebell/onebell/proto/onebell/alert/v1"
	outcomev1 "github.com/onebell/onebell/proto/onebell/outcome/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/topology"
)

// tries keeps what may belong to the subject: for a person that is only known once the opt-ins are read.
func (s *story) tries(msg jetstream.Msg) {
	pack := &outcomev1.Tries{}
	if proto.Unmarshal(msg.Data(), pack) != nil || pack.GetPageId() != s.page {
		return
	}
	for _, t := range pack.GetTries() {
		shard, _ := ids.PermissionShard(t.GetPermissionId())
		if s.wholePerson && shard != ids.Shard(s.psid) || !s.wholePerson && !s.isSubject(t.GetPermissionId(), t.GetSendId()) {
			continue
		}
		s.learn(t.GetPermissionId(), "")
		s.tried = append(s.tried, try{pack.GetAt().AsTime(), t})
	}
}

// isSubject tells whether a fact is about the permission or send that is asked for.
func (s *story) isSubject(permission, send string) bool {
	if s.send != "" {
		return send == s.send
	}
	return permission == s.permission
}

// learn notes to whom the permission or send belongs.
func (s *story) learn(permission, psid string) {
	if s.wholePerson {
		return
	}
	s.permission = cmp.Or(s.permission, permission)
	s.psid = cmp.Or(s.psid, psid)
}

func (s *story) outcome(msg jetstream.Msg) {
	o := &outcomev1.Outcome{}
	if (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(msg.Data(), o) != nil || o.GetPageId() != s.page {
		return
	}
	// An outcome without a person is the person's when its permission is, which is looked at in the end.
	mine := s.wholePerson && (o.GetPsid() == s.psid || o.GetPsid() == "")
	if !mine && (s.wholePerson || !s.isSubject(o.GetPermissionId(), o.GetSendId())) {
		return
	}
	s.learn(o.GetPermissionId(), o.GetPsid())
	s.outcomes = append(s.outcomes, o)
}

func (s *story) optin(msg jetstream.Msg) {
	o := &optin{at: stored(msg)}
	if msg.Headers().Get(topology.HeaderKind) == topology.KindRecord {
		item := &tokenv1.RecordItem{}
		if proto.Unmarshal(msg.Data(), item) != nil || item.GetPageId() != s.page {
			return
		}
		o.psid, o.topic, o.permission = item.GetPsid(), item.GetTopic(), ids.Permission(item.GetPageId(), item.GetPsid(), item.GetToken())
		if item.GetOptedInAt() != nil {
			o.at = item.GetOptedInAt().AsTime()
		}
	} else {
		tap := element{}
		if json.Unmarshal(msg.Data(), &tap) != nil {
			return
		}
		o.psid = cmp.Or(msg.Headers().Get(topology.HeaderPerson), string(tap.Sender.ID))
		o.permission = ids.Permission(s.page, o.psid, tap.Optin.Token)
		o.at = tap.at(msg)
		if page := msg.Headers().Get(topology.HeaderPage); page != "" && page != s.page {
			return
		}
	}
	if s.wholePerson && o.psid != s.psid || !s.wholePerson && o.permission != s.permission {
		return
	}
	// A webhook delivered twice is one opt-in.
	if slices.ContainsFunc(s.optins, func(known *optin) bool { return known.permission == o.permission }) {
		return
	}
	s.learn(o.permission, o.psid)
	s.optins = append(s.optins, o)
}

// person takes facts about the person. Tags belong to the person's story; a stop to that of each permission too.
func (s *story) person(msg jetstream.Msg) {
	fact := &tokenv1.PersonFact{}
	if proto.Unmarshal(msg.Data(), fact) != nil || fact.GetPageId() != s.page || fact.GetPsid() != s.psid {
		return
	}
	step := &alertv1.Step{At: fact.GetAt()}
	switch fact.GetWhat().(type) {
	case *tokenv1.PersonFact_Tagged:
		if !s.wholePerson {
			return
		}
		step.Kind, step.Reason = alertv1.StepKind_STEP_KIND_TAGGED, tagged(fact.GetTagged())
	case *tokenv1.PersonFact_Stopped:
		step.Kind, step.Reason = alertv1.StepKind_STEP_KIND_STOPPED, "stopped"
	case *tokenv1.PersonFact_Resumed:
		step.Kind, step.Reason = alertv1.StepKind_STEP_KIND_STOPPED, "resumed"
	default:
		return
	}
	s.others = append(s.others, step)
}

func tagged(t *tokenv1.Tagged) string {
	words := []string{"tags"}
	for _, tag := range t.GetAdd() {
		words = append(words, "+"+tag)
	}
	for _, tag := range t.GetRemove() {
		words = append(words, "-"+tag)
	}
	return strings.Join(words, " ")
}

func (s *story) delivery(msg jetstream.Msg) { s.receipt(msg, alertv1.StepKind_STEP_KIND_DELIVERED) }

func (s *story) readReceipt(msg jetstream.Msg) { s.receipt(msg, alertv1.StepKind_STEP_KIND_READ) }

func (s *story) receipt(msg jetstream.Msg, kind alertv1.StepKind) {
	e := element{}
	if json.Unmarshal(msg.Data(), &e) != nil {
		return
	}
	r := receipt{kind: kind, at: e.at(msg), psid: cmp.Or(msg.Headers().Get(topology.HeaderPerson), string(e.Sender.ID))}
	said := e.Delivery
	if kind == alertv1.StepKind_STEP_KIND_READ {
		said = e.Read
	}
	r.mids = said.Mids
	if said.Watermark > 0 {
		r.watermark = time.UnixMilli(said.Watermark)
	}
	if r.psid == s.psid && s.psid != "" {
		s.receipts = append(s.receipts, r)
	}
}

// element is what is read of the platform's own JSON.
type element struct {
	Sender struct {
		ID text `json:"id"`
	} `json:"sender"`
	Timestamp int64 `json:"timestamp"`
	Optin     struct {
		Token string `json:"one_time_notif_token"`
	} `json:"optin"`
	Delivery marks `json:"delivery"`
	Read     marks `json:"read"`
}

type marks struct {
	Mids      []string `json:"mids"`
	Watermark int64    `json:"watermark"`
}

// text reads an id that may come as a number.
type text string

// UnmarshalJSON takes a string or a number.
func (t *text) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) != nil {
		s = string(b)
	}
	*t = text(s)
	return nil
}

// at is the platform's time of an element (a number below 10^11 means seconds), else when it was stored.
func (e element) at(msg jetstream.Msg) time.Time {
	switch {
	case e.Timestamp <= 0:
		return stored(msg)
	case e.Timestamp < 1e11:
		return time.Unix(e.Timestamp, 0)
	}
	return time.UnixMilli(e.Timestamp)
}

func stored(msg jetstream.Msg) time.Time {
	if meta, err := msg.Metadata(); err == nil {
		return meta.Timestamp
	}
	return time.Time{}
}
