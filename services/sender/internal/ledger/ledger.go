// Package ledger writes down what the sender does: tries before the calls, an outcome for each, sends that must come again,
// dead letters. Everything it writes is stored when a function returns without error. It decides nothing.
package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/proto/ids"
	outcomev1 "github.com/onebell/onebell/proto/onebell/outcome/v1"
	sendv1 "github.com/onebell/onebell/proto/onebell/send/v1"
	"github.com/onebell/onebell/proto/topology"
)

// patience is how long one message is tried to be stored: above the 4 to 8 s that a stream needs for a new leader, and
// within the 25 s of a stop (README).
const patience = 8 * time.Second

// Ledger writes.
type Ledger struct {
	js jetstream.JetStream
}

// New makes a ledger.
func New(js jetstream.JetStream) *Ledger { return &Ledger{js} }

// Tries writes what is about to be sent.
func (l *Ledger) Tries(ctx context.Context, tries *outcomev1.Tries, id string) error {
	body, err := proto.Marshal(tries)
	if err != nil {
		return fmt.Errorf("tries: %w", err)
	}
	return l.publish(ctx, stream.NewMsg(ctx, topology.TriesSubject(tries.GetPageId()), id, body))
}

var outcomeJSON = protojson.MarshalOptions{UseProtoNames: true}

// Outcome writes what became of a send. Writing it twice is harmless: its id comes from the send, the grant and the verdict.
func (l *Ledger) Outcome(ctx context.Context, o *outcomev1.Outcome) error {
	body, err := outcomeJSON.Marshal(o)
	if err != nil {
		return fmt.Errorf("outcome: %w", err)
	}
	shard, ok := ids.PermissionShard(o.GetPermissionId())
	if !ok {
		shard = ids.NoShard
	}
	id := fmt.Sprintf("%s:%d:%d:%s", o.GetSendId(), o.GetFence(), o.GetAttempt(), o.GetVerdict())
	return l.publish(ctx, stream.NewMsg(ctx, topology.OutcomeSubject(o.GetPageId(), shard, o.GetVerdict()), id, body))
}

// Again puts sends of one page back into the queue as a pack of their own, not before a time (zero: now). cause is the same
// when the same message is worked twice and different otherwise: ids that only count tries would let the server take a
// later return for a repeat and drop it. The id names every send: a round that was cut short may have put back some of
// them together, and the next round puts back others with them.
func (l *Ledger) Again(ctx context.Context, pageID string, u topology.Urgency, sends []*sendv1.Send, notBefore time.Time, cause string) error {
	pack := &sendv1.Pack{PageId: pageID, Sends: sends}
	if !notBefore.IsZero() {
		pack.NotBefore = timestamppb.New(notBefore)
	}
	body, err := proto.Marshal(pack)
	if err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	return l.publish(ctx, stream.NewMsg(ctx, topology.SendSubject(pageID, u), packID(sends, cause), body))
}

// packID is the same for the same sends in any order.
func packID(sends []*sendv1.Send, cause string) string {
	var names []string
	for _, s := range sends {
		names = append(names, s.GetSendId())
	}
	slices.Sort(names)
	sum := sha256.Sum256([]byte(strings.Join(names, "\n")))
	return "again:" + hex.EncodeToString(sum[:16]) + ":" + cause
}

// Dead keeps a copy of a send that is given up, as a pack of its own that can be put back into the queue as it is.
func (l *Ledger) Dead(ctx context.Context, pageID string, u topology.Urgency, s *sendv1.Send, code, subcode int, reason, detail, cause string) error {
	body, err := proto.Marshal(&sendv1.Pack{PageId: pageID, Sends: []*sendv1.Send{s}})
	if err != nil {
		return fmt.Errorf("dead send: %w", err)
	}
	subject := topology.SendSubject(pageID, u)
	headers := stream.NewMsg(ctx, subject, s.GetSendId()+":"+cause, nil).Header
	headers.Set(topology.HeaderPage, pageID)
	headers.Set(topology.HeaderSendID, s.GetSendId())
	headers.Set(topology.HeaderPermissionID, s.GetPermissionId())
	headers.Set(topology.HeaderAlertID, s.GetAlertId())
	headers.Set(topology.HeaderAttempts, strconv.Itoa(int(s.GetAttempts())))
	if code != 0 {
		headers.Set(topology.HeaderCode, strconv.Itoa(code))
	}
	if subcode != 0 {
		headers.Set(topology.HeaderSubcode, strconv.Itoa(subcode))
	}
	return l.insist(ctx, func(ctx context.Context) error {
		return stream.Bury(ctx, l.js, topology.DeadSubject(topology.Sends), subject, headers, body, reason, detail)
	})
}

func (l *Ledger) publish(ctx context.Context, msg *nats.Msg) error {
	return l.insist(ctx, func(ctx context.Context) error {
		if _, err := l.js.PublishMsg(ctx, msg); err != nil {
			return fmt.Errorf("publish on %s: %w", msg.Subject, err)
		}
		return nil
	})
}

// insist repeats a write for a while: giving it up leaves a call without its outcome.
func (l *Ledger) insist(ctx context.Context, write func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		one, done := context.WithTimeout(ctx, patience/2)
		err := write(one)
		done()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(250 * time.Millisecond):
		}
	}
}
