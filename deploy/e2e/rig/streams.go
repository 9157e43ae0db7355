package rig

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/onebell/onebell/proto/ids"
	outcomev1 "github.com/onebell/onebell/proto/onebell/outcome/v1"
	"github.com/onebell/onebell/proto/topology"
)

// Messages are all messages of a stream on a subject (wildcards allowed), oldest first.
func (s *System) Messages(stream, subject string) []*jetstream.RawStreamMsg {
	s.t.Helper()
	str, err := s.JS.Stream(s.t.Context(), stream)
	if err != nil {
		s.t.Fatalf("stream %s: %v", stream, err)
	}
	var all []*jetstream.RawStreamMsg
	for next := uint64(1); ; {
		msg, err := str.GetMsg(s.t.Context(), next, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return all
		}
		if err != nil {
			s.t.Fatalf("stream %s: %v", stream, err)
		}
		all, next = append(all, msg), msg.Sequence+1
	}
}

// AwaitMessage waits for the first message of a stream on a subject.
func (s *System) AwaitMessage(stream, subject string) *jetstream.RawStreamMsg {
	s.t.Helper()
	var found []*jetstream.RawStreamMsg
	Eventually(s.t, "a message on "+subject, func() bool {
		found = s.Messages(stream, subject)
		return len(found) > 0
	})
	return found[0]
}

// Verdicts are the verdicts on the permission of a token, oldest first.
func (s *System) Verdicts(p Page, psid, token string) []string {
	s.t.Helper()
	var verdicts []string
	for _, o := range s.Outcomes(p) {
		if o.GetPermissionId() == ids.Permission(p.ID, psid, token) {
			verdicts = append(verdicts, o.GetVerdict())
		}
	}
	return verdicts
}

// Outcomes are all outcomes of a page, oldest first.
func (s *System) Outcomes(p Page) []*outcomev1.Outcome {
	s.t.Helper()
	var all []*outcomev1.Outcome
	for _, msg := range s.Messages(topology.Outcomes, "outcomes."+p.ID+".>") {
		o := &outcomev1.Outcome{}
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(msg.Data, o); err != nil {
			s.t.Fatalf("outcome %d: %v", msg.Sequence, err)
		}
		all = append(all, o)
	}
	return all
}

// Quiet waits until nothing is under way: every event is judged, every wave worked, every pack sent. Each step writes the
// next one before it acknowledges, so looking at them in this order misses nothing.
func (s *System) Quiet() {
	s.t.Helper()
	what := ""
	Eventually(s.t, "nothing is under way", func() bool {
		what = s.underWay(s.t.Context())
		return what == ""
	})
}

func (s *System) underWay(ctx context.Context) string {
	for _, name := range []string{topology.Optins, topology.Events, topology.Inventory, topology.Outcomes} {
		str, err := s.JS.Stream(ctx, name)
		if err != nil {
			return err.Error()
		}
		list := str.ListConsumers(ctx)
		for c := range list.Info() {
			if c.Config.Durable != "" && (c.NumPending > 0 || c.NumAckPending > 0) {
				return fmt.Sprintf("%s: %d to come, %d in work", c.Name, c.NumPending, c.NumAckPending)
			}
		}
		if list.Err() != nil {
			return list.Err().Error()
		}
		if name != topology.Inventory {
			continue
		}
		for _, queue := range []string{topology.Waves, topology.Sends} {
			str, err := s.JS.Stream(ctx, queue)
			if err != nil {
				return err.Error()
			}
			if n := str.CachedInfo().State.Msgs; n > 0 {
				return fmt.Sprintf("%s: %d", queue, n)
			}
		}
	}
	return ""
}
