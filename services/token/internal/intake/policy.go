package intake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onebell/onebell/pkg/fault"
	"github.com/onebell/onebell/pkg/stream"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/topology"
)

// KindPolicy is the kind of an event by which the platform warns, blocks or unblocks a page.
const KindPolicy = "policy"

// Policy is what the platform says of a page.
type Policy struct {
	Action string // warning, block, unblock
	Reason string
	At     time.Time
}

// ReadPolicy reads a message of EVENTS; false when it is no such event.
func ReadPolicy(kind string, body []byte, stored time.Time) (Policy, bool) {
	if kind != KindPolicy {
		return Policy{}, false
	}
	type enforcement struct {
		Action string `json:"action"`
		Reason string `json:"reason"`
	}
	var e struct {
		Timestamp json.RawMessage `json:"timestamp"`
		Now       *enforcement    `json:"policy_enforcement"`
		Old       *enforcement    `json:"policy-enforcement"` // the older spelling
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return Policy{}, false
	}
	if e.Now == nil {
		e.Now = e.Old
	}
	if e.Now == nil {
		return Policy{}, false
	}
	var timestamp any = json.Number(strings.Trim(string(e.Timestamp), `"`))
	return Policy{Action: e.Now.Action, Reason: e.Now.Reason, At: optinTime(timestamp, "", stored)}, true
}

var policies = func() metric.Int64Counter {
	counter, _ := otel.Meter("onebell/token").Int64Counter("onebell_policy_events", metric.WithDescription("what the platform said of pages, by action"))
	return counter
}()

// policy pauses a page that the platform has blocked, until it unblocks it: what is sent meanwhile would be refused, and held
// against the page. A warning is for people to act on.
func (in *Intake) policy(ctx context.Context, page string, p Policy, id string) error {
	fact := &tokenv1.PageFact{PageId: page, At: timestamppb.New(p.At)}
	cause, action := tokenv1.PauseCause_PAUSE_CAUSE_PLATFORM, p.Action
	switch action {
	case "block":
		fact.What = &tokenv1.PageFact_Paused{Paused: &tokenv1.PagePaused{Cause: cause, Reason: p.Reason}}
		in.Log.Error("the platform has blocked a page: nothing is granted there until it is unblocked", "page", page, "reason", p.Reason)
	case "unblock":
		fact.What = &tokenv1.PageFact_Resumed{Resumed: &tokenv1.PageResumed{Cause: cause}}
		in.Log.Info("the platform has unblocked a page", "page", page)
	case "warning":
		in.Log.Warn("the platform has warned a page", "page", page, "reason", p.Reason)
	default:
		action = "other"
		in.Log.Warn("the platform says something unknown of a page", "page", page, "reason", p.Reason)
	}
	policies.Add(ctx, 1, metric.WithAttributes(attribute.String("action", action)))
	if fact.GetWhat() == nil {
		return nil
	}
	return in.SayPage(ctx, fact, "page:"+id)
}

// SayPage publishes a fact about a page and applies it. id makes a repeat harmless; it may be empty.
func (in *Intake) SayPage(ctx context.Context, fact *tokenv1.PageFact, id string) error {
	body, err := proto.Marshal(fact)
	if err != nil {
		return err
	}
	if _, err := in.JS.PublishMsg(ctx, stream.NewMsg(ctx, topology.PageSubject(fact.GetPageId()), id, body)); err != nil {
		return fault.Later(time.Second, "jetstream", fmt.Errorf("publish a fact about a page: %w", err))
	}
	return in.Ledger.ApplyPage(ctx, fact)
}

// PageFact reads a message of PEOPLE that is about a page.
func PageFact(body []byte) (*tokenv1.PageFact, error) {
	var f tokenv1.PageFact
	if err := proto.Unmarshal(body, &f); err != nil {
		return nil, fault.New(fault.Invalid, "bad_page_fact", fmt.Errorf("not a PageFact: %w", err))
	}
	if f.GetPageId() == "" || f.GetAt() == nil {
		return nil, fault.New(fault.Invalid, "bad_page_fact", errors.New("expected a page and a time"))
	}
	return &f, nil
}

func (in *Intake) page(ctx context.Context, msg jetstream.Msg) error {
	f, err := PageFact(msg.Data())
	if err != nil {
		return err
	}
	return in.Ledger.ApplyPage(ctx, f)
}
