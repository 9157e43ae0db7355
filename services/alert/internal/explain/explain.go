// Package explain tells everything that happened to a person, a permission or a send, from the facts in the streams. It
// changes nothing and keeps nothing.
package explain

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onebell/onebell/pkg/rpc"
	"github.com/onebell/onebell/proto/ids"
	alertv1 "github.com/onebell/onebell/proto/onebell/alert/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/topology"
)

// Reader answers Explain.
type Reader struct {
	JS    jetstream.JetStream
	Token tokenv1.TokenServiceClient
	Log   *slog.Logger
}

// limit bounds a call. The facts of one shard, a sixty-fourth of a page's people, are read in well under a second; the tries of
// a whole page, or the outcomes of all shards for a send that is in no try, may take longer.
const limit = 10 * time.Second

// maxID bounds page ids and psids, as everywhere.
const maxID = 64

// Explain answers the steps of one subject, oldest first; see alert.proto. A page or an id that nobody knows has no steps.
func (r Reader) Explain(ctx context.Context, req *alertv1.ExplainRequest) (*alertv1.ExplainResponse, error) {
	if v := check(req); len(v) > 0 {
		return nil, rpc.BadRequest(v...)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s := newStory(req)
	if err := r.read(ctx, s); err != nil {
		return nil, fmt.Errorf("explain: %w", err)
	}
	r.topics(ctx, s)
	return &alertv1.ExplainResponse{Steps: s.tell()}, nil
}

func check(req *alertv1.ExplainRequest) (v []rpc.Violation) {
	name := func(field, value string) {
		if value == "" || len(value) > maxID {
			v = append(v, rpc.Violation{Field: field, Description: fmt.Sprintf("expected 1 to %d characters", maxID)})
		}
	}
	name("page_id", req.GetPageId())
	switch req.GetSubject().(type) {
	case *alertv1.ExplainRequest_Psid:
		name("psid", req.GetPsid())
	case *alertv1.ExplainRequest_PermissionId:
		name("permission_id", req.GetPermissionId())
	case *alertv1.ExplainRequest_SendId:
		name("send_id", req.GetSendId())
	default:
		v = append(v, rpc.Violation{Field: "subject", Description: "missing, expected psid, permission_id or send_id"})
	}
	return v
}

// read collects the facts. Tries come first: they know the permission of a send, and so the shard of everything else.
func (r Reader) read(ctx context.Context, s *story) error {
	page := topology.SubjectToken(s.page)
	if err := r.each(ctx, topology.Tries, topology.TriesSubject(s.page), s.tries); err != nil {
		return err
	}
	shard, ok := s.shard()
	switch {
	case !ok && s.send == "":
		return nil // not the form of a permission id: nobody's
	case !ok: // a send in no try: it was passed over, or its tries are forgotten
		if err := r.each(ctx, topology.Outcomes, topology.OutcomeSubject(s.page, "*", "*"), s.outcome); err != nil {
			return err
		}
		if shard, ok = s.shard(); !ok {
			return nil
		}
	default:
		if err := r.each(ctx, topology.Outcomes, topology.OutcomeSubject(s.page, shard, "*"), s.outcome); err != nil {
			return err
		}
	}
	for _, fact := range []struct {
		stream, subject string
		take            func(jetstream.Msg)
	}{
		{topology.Optins, "optins." + page + "." + shard, s.optin},
		{topology.People, "people." + page + "." + shard, s.person},
		{topology.Events, "events." + page + "." + shard + ".delivery", s.delivery},
		{topology.Events, "events." + page + "." + shard + ".read", s.readReceipt},
	} {
		if err := r.each(ctx, fact.stream, fact.subject, fact.take); err != nil {
			return err
		}
	}
	return nil
}

// each gives every message that a stream holds now under a subject, oldest first.
func (r Reader) each(ctx context.Context, stream, subject string, take func(jetstream.Msg)) error {
	s, err := r.JS.Stream(ctx, stream)
	if err != nil {
		return fmt.Errorf("stream %s: %w", stream, err)
	}
	last := s.CachedInfo().State.LastSeq
	consumer, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}, InactiveThreshold: limit})
	if err != nil {
		return fmt.Errorf("read %s: %w", subject, err)
	}
	if info := consumer.CachedInfo(); info != nil && info.NumPending == 0 {
		return nil
	}
	messages, err := consumer.Messages(jetstream.PullHeartbeat(time.Second), jetstream.PullExpiry(5*time.Second))
	if err != nil {
		return fmt.Errorf("read %s: %w", subject, err)
	}
	defer messages.Stop()
	for {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("read %s: %w", subject, err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read %s: %w", subject, err)
		}
		if meta.Sequence.Stream > last {
			return nil
		}
		take(msg)
		if meta.NumPending == 0 || meta.Sequence.Stream == last {
			return nil
		}
	}
}

// topics asks the token service what each permission is for: the opt-in itself only holds the platform's payload. Without
// an answer the steps are told without topic.
func (r Reader) topics(ctx context.Context, s *story) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for _, o := range s.optins {
		if o.topic != "" {
			continue
		}
		answer, err := r.Token.GetPermission(ctx, &tokenv1.GetPermissionRequest{PageId: s.page, PermissionId: o.permission})
		if ctx.Err() != nil {
			r.Log.Warn("explain: the token service does not say what opt-ins are for", "page", s.page, "err", err)
			return
		}
		o.topic = answer.GetPermission().GetTopic() // empty where there is none: erased, or not yet recorded
	}
}

// shardOf is where a permission's facts are.
func shardOf(permissionID, psid string) (string, bool) {
	if shard, ok := ids.PermissionShard(permissionID); ok {
		return shard, true
	}
	if psid != "" {
		return ids.Shard(psid), true
	}
	return "", false
}
