package explain

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	alertv1 "github.com/onebell/onebell/proto/onebell/alert/v1"
	outcomev1 "github.com/onebell/onebell/proto/onebell/outcome/v1"
	"github.com/onebell/onebell/proto/verdict"
)

// story is what is found out about one subject.
type story struct {
	page, psid, permission, send string // who is asked for, and what is learned of it on the way
	wholePerson                  bool   // the person is asked for: everything on any permission

	optins   []*optin
	outcomes []*outcomev1.Outcome
	tried    []try
	others   []*alertv1.Step // steps that stand for themselves: tags, stops
	receipts []receipt
}

type optin struct {
	at                      time.Time
	psid, permission, topic string
}

type try struct {
	at time.Time
	*outcomev1.Try
}

// receipt says that messages arrived, or were read.
type receipt struct {
	kind      alertv1.StepKind
	at        time.Time
	psid      string
	mids      []string
	watermark time.Time // everything up to here; zero: not said
}

func newStory(req *alertv1.ExplainRequest) *story {
	return &story{
		page: req.GetPageId(), psid: req.GetPsid(), permission: req.GetPermissionId(), send: req.GetSendId(),
		wholePerson: req.GetPsid() != "",
	}
}

func (s *story) shard() (string, bool) { return shardOf(s.permission, s.psid) }

// tell puts the steps in order.
func (s *story) tell() []*alertv1.Step {
	s.keepOwn()
	steps := s.others
	for _, o := range s.optins {
		steps = append(steps, &alertv1.Step{
			At: timestamppb.New(o.at), Kind: alertv1.StepKind_STEP_KIND_OPTED_IN, Topic: o.topic, PermissionId: o.permission,
		})
	}
	for _, t := range s.tried {
		for _, kind := range []alertv1.StepKind{alertv1.StepKind_STEP_KIND_GRANTED, alertv1.StepKind_STEP_KIND_ATTEMPTED} {
			steps = append(steps, &alertv1.Step{
				At: timestamppb.New(t.at), Kind: kind, Topic: s.topicOf(t.GetPermissionId()), AlertId: t.GetAlertId(),
				PermissionId: t.GetPermissionId(), SendId: t.GetSendId(), Attempt: t.GetAttempt(),
			})
		}
	}
	for _, o := range s.outcomes {
		steps = append(steps, settled(o))
	}
	steps = append(steps, s.arrived()...)
	slices.SortStableFunc(steps, func(a, b *alertv1.Step) int {
		// Two things of the same moment in the order in which they follow from each other.
		return cmp.Or(a.GetAt().AsTime().Compare(b.GetAt().AsTime()), cmp.Compare(a.GetKind(), b.GetKind()))
	})
	return withChosen(steps)
}

// withChosen puts before the first step of each send of an alert that it was chosen. Nothing is written when that happens, so
// the time is the first at which it can be seen, and the reason says so. Who was passed over was not chosen, and a send that
// somebody else granted belongs to no alert.
func withChosen(steps []*alertv1.Step) []*alertv1.Step {
	told := map[string]bool{}
	var out []*alertv1.Step
	for _, step := range steps {
		seen := ""
		switch step.GetKind() {
		case alertv1.StepKind_STEP_KIND_GRANTED:
			seen = "at the latest by now: its first try"
		case alertv1.StepKind_STEP_KIND_SETTLED, alertv1.StepKind_STEP_KIND_GIVEN_UP:
			seen = "at the latest by now: its first outcome"
		}
		if send := step.GetSendId(); seen != "" && send != "" && step.GetAlertId() != "" && !told[send] {
			told[send] = true
			out = append(out, &alertv1.Step{
				At: step.GetAt(), Kind: alertv1.StepKind_STEP_KIND_CHOSEN, Reason: seen, Topic: step.GetTopic(),
				AlertId: step.GetAlertId(), PermissionId: step.GetPermissionId(), SendId: send,
			})
		}
		out = append(out, step)
	}
	return out
}

// keepOwn drops what was read of others of the person's shard: tries name no person, outcomes sometimes none.
func (s *story) keepOwn() {
	if !s.wholePerson {
		return
	}
	own := map[string]bool{}
	for _, o := range s.optins {
		own[o.permission] = true
	}
	for _, o := range s.outcomes {
		if o.GetPsid() == s.psid {
			own[o.GetPermissionId()] = true
		}
	}
	s.tried = slices.DeleteFunc(s.tried, func(t try) bool { return !own[t.GetPermissionId()] })
	s.outcomes = slices.DeleteFunc(s.outcomes, func(o *outcomev1.Outcome) bool { return !own[o.GetPermissionId()] })
}

func (s *story) topicOf(permission string) string {
	for _, o := range s.optins {
		if o.permission == permission && o.topic != "" {
			return o.topic
		}
	}
	for _, o := range s.outcomes {
		if o.GetPermissionId() == permission {
			return o.GetTopic()
		}
	}
	return ""
}

func settled(o *outcomev1.Outcome) *alertv1.Step {
	kind := alertv1.StepKind_STEP_KIND_SETTLED
	switch {
	case verdict.PassedOver(o.GetVerdict()):
		kind = alertv1.StepKind_STEP_KIND_PASSED_OVER
	case o.GetVerdict() == verdict.GivenUp:
		kind = alertv1.StepKind_STEP_KIND_GIVEN_UP
	}
	return &alertv1.Step{
		At: o.GetAt(), Kind: kind, Verdict: o.GetVerdict(), Reason: o.GetReason(), Topic: o.GetTopic(), AlertId: o.GetAlertId(),
		PermissionId: o.GetPermissionId(), SendId: o.GetSendId(), MessageId: o.GetMessageId(), Attempt: o.GetAttempt(),
		Code: o.GetCode(), Subcode: o.GetSubcode(),
	}
}

// arrived makes the steps of receipts: for each message sent the first that names it, or covers it by its watermark.
func (s *story) arrived() (steps []*alertv1.Step) {
	for _, kind := range []alertv1.StepKind{alertv1.StepKind_STEP_KIND_DELIVERED, alertv1.StepKind_STEP_KIND_READ} {
		told := map[string]bool{}
		for _, o := range s.outcomes {
			if verdictEffect := verdict.Effects[o.GetVerdict()]; verdictEffect != verdict.Spends || told[o.GetSendId()] {
				continue
			}
			i := slices.IndexFunc(s.receipts, func(r receipt) bool { return r.kind == kind && r.covers(o, s.sentAt(o)) })
			if i < 0 {
				continue
			}
			told[o.GetSendId()] = true
			step := settled(o)
			step.At, step.Kind, step.Verdict, step.Reason = timestamppb.New(s.receipts[i].at), kind, "", ""
			steps = append(steps, step)
		}
	}
	return steps
}

func (r receipt) covers(o *outcomev1.Outcome, sentAt time.Time) bool {
	if o.GetMessageId() != "" && slices.Contains(r.mids, o.GetMessageId()) {
		return true
	}
	return len(r.mids) == 0 && !r.watermark.Before(sentAt)
}

// sentAt is the time before which the platform cannot have taken a message: that of its last try, where it is still known.
// The watermark is the platform's own time, which lies between try and outcome.
func (s *story) sentAt(o *outcomev1.Outcome) time.Time {
	at := o.GetAt().AsTime()
	for _, t := range s.tried {
		if t.GetSendId() == o.GetSendId() && t.at.Before(o.GetAt().AsTime()) {
			at = t.at
		}
	}
	return at.Truncate(time.Millisecond) // as precise as the watermark
}
