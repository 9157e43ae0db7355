package intake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onebell/onebell/pkg/fault"
	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/proto/ids"
	outcomev1 "github.com/onebell/onebell/proto/onebell/outcome/v1"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/proto/verdict"
	"github.com/onebell/onebell/services/token/internal/ledger"
)

// KindEcho is the kind of an event that repeats what the page sent, back to the page.
const KindEcho = "echo"

// Echo is a message of the page that the platform has sent: proof, whatever became of the answer to the call.
type Echo struct {
	SendID    string // message.metadata, where the sender puts it
	MessageID string
	At        time.Time
}

// ReadEcho reads a message of EVENTS; false when it is no echo of a send of ours. The echoes of a conversation that another
// app leads come in standby.
func ReadEcho(kind string, body []byte, stored time.Time) (Echo, bool) {
	if kind != KindEcho && kind != kindStandby {
		return Echo{}, false
	}
	var e struct {
		Timestamp json.RawMessage `json:"timestamp"`
		Message   struct {
			IsEcho   bool   `json:"is_echo"`
			Metadata string `json:"metadata"`
			MID      string `json:"mid"`
		} `json:"message"`
	}
	if err := json.Unmarshal(body, &e); err != nil || !e.Message.IsEcho {
		return Echo{}, false
	}
	// Send ids are short; other apps put whatever they like into metadata.
	if e.Message.Metadata == "" || len(e.Message.Metadata) > 64 {
		return Echo{}, false
	}
	var timestamp any = json.Number(strings.Trim(string(e.Timestamp), `"`))
	return Echo{SendID: e.Message.Metadata, MessageID: e.Message.MID, At: optinTime(timestamp, "", stored)}, true
}

// soon is when an echo comes again that was faster than the sender's own `sent`: mostly it is there by then. One that is not
// waits for the end of the lease.
const soon = 2 * time.Second

// echo settles the send that an echo proves, unless the sender has. While the sender holds the lease it is left to the sender:
// `sent` knows more. Whichever comes second finds the permission spent and changes nothing.
func (in *Intake) echo(ctx context.Context, page, psid string, e Echo, msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
	held, err := in.Ledger.Held(ctx, page, psid, e.SendID)
	if err != nil || held == nil || held.State == ledger.Spent {
		return err
	}
	if held.State == ledger.Granted && held.Left > 0 {
		after := held.Left
		if meta.NumDelivered == 1 {
			after = min(after, soon)
		}
		return fault.Later(after, "lease", errors.New("an echo of a send that holds its lease"))
	}
	// Unclear, or granted and left alone by its sender; or given back, lapsed or refused although it was sent.
	o := &outcomev1.Outcome{
		PageId: page, PermissionId: held.PermissionID, Psid: psid, Topic: held.Topic, SendId: e.SendID, Verdict: verdict.SentBefore, Final: true,
		Fence: held.Fence, MessageId: e.MessageID, At: timestamppb.New(e.At), Reason: "echo",
	}
	if err := in.sayOutcome(ctx, o, "sent_before:"+cause(msg, meta)); err != nil {
		return err
	}
	in.Log.Info("an echo settled a send", "page", page, "permission", held.PermissionID, "send", e.SendID, "verdict", o.GetVerdict())
	return nil
}

// sayOutcome publishes an outcome and applies it. id makes a repeat harmless.
func (in *Intake) sayOutcome(ctx context.Context, o *outcomev1.Outcome, id string) error {
	shard, ok := ids.PermissionShard(o.GetPermissionId())
	if !ok {
		return fault.New(fault.Invalid, "bad_permission_id", fmt.Errorf("permission_id %q", o.GetPermissionId()))
	}
	body, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(o)
	if err != nil {
		return err
	}
	if _, err := in.JS.PublishMsg(ctx, stream.NewMsg(ctx, topology.OutcomeSubject(o.GetPageId(), shard, o.GetVerdict()), id, body)); err != nil {
		return fault.Later(time.Second, "jetstream", fmt.Errorf("publish an outcome: %w", err))
	}
	s, does, err := Outcome(body)
	if err != nil || !does {
		return err
	}
	_, err = in.Ledger.Apply(ctx, []ledger.Settlement{s})
	return err
}
