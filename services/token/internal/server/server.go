// Package server answers TokenService over gRPC: it checks requests, writes facts to the streams and asks the ledger.
package server

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onebell/onebell/pkg/door"
	"github.com/onebell/onebell/pkg/fault"
	"github.com/onebell/onebell/pkg/rpc"
	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/proto/ids"
	outcomev1 "github.com/onebell/onebell/proto/onebell/outcome/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/proto/verdict"
	"github.com/onebell/onebell/services/token/internal/index"
	"github.com/onebell/onebell/services/token/internal/intake"
	"github.com/onebell/onebell/services/token/internal/ledger"
)

// Policy says who may call: services and operators all of it, but for two methods.
// What is about all of a person, for good or in full, is for operators.
var Policy = rpc.Policy{
	"/onebell.token.v1.TokenService/":             {door.Caller, door.Operator},
	"/onebell.token.v1.TokenService/ForgetPerson": {door.Operator},
	"/onebell.token.v1.TokenService/ExportPerson": {door.Operator},
}

// MaxItems bounds the items of one call.
const MaxItems = 1000

// MaxLease bounds how long a granted send may take.
const MaxLease = 10 * time.Minute

// Server is TokenService.
type Server struct {
	tokenv1.UnimplementedTokenServiceServer
	JS     jetstream.JetStream
	Ledger *ledger.Ledger
	Index  *index.Index
	Intake *intake.Intake
}

var results = func() metric.Int64Counter {
	counter, _ := otel.Meter("onebell/token").Int64Counter("onebell_token_results", metric.WithDescription("items answered, by method and result"))
	return counter
}()

func count(ctx context.Context, method, result string) {
	results.Add(ctx, 1, metric.WithAttributes(attribute.String("method", method), attribute.String("result", result)))
}

// Record implements TokenService.
func (s *Server) Record(ctx context.Context, req *tokenv1.RecordRequest) (*tokenv1.RecordResponse, error) {
	if err := checkItems(len(req.GetItems())); err != nil {
		return nil, err
	}
	if err := s.Index.Ready(); err != nil {
		return nil, err
	}
	resp := &tokenv1.RecordResponse{Results: make([]*tokenv1.RecordResult, len(req.GetItems()))}
	var optins []ledger.Optin
	var msgs []*nats.Msg
	var at []int
	for i, item := range req.GetItems() {
		o, err := intake.FromItem(item, time.Now())
		if err != nil {
			count(ctx, "Record", "invalid")
			resp.Results[i] = &tokenv1.RecordResult{Result: &tokenv1.RecordResult_Invalid{Invalid: &tokenv1.Invalid{Reason: err.Error()}}}
			continue
		}
		msg, err := recordMsg(ctx, item, o)
		if err != nil {
			return nil, err
		}
		optins, msgs, at = append(optins, o), append(msgs, msg), append(at, i)
	}
	if len(optins) == 0 {
		return resp, nil
	}
	// Looked up before: afterwards the consumer of OPTINS may have been faster with these very facts.
	known, err := s.Ledger.Known(ctx, optins)
	if err != nil {
		return nil, err
	}
	if err := s.storeOptins(ctx, optins, msgs); err != nil {
		return nil, err
	}
	if _, err := s.Ledger.Record(ctx, optins); err != nil {
		return nil, err
	}
	for j, i := range at {
		id := optins[j].ID()
		resp.Results[i] = &tokenv1.RecordResult{PermissionId: id, Result: &tokenv1.RecordResult_Recorded{Recorded: &tokenv1.Recorded{}}}
		if known[id] {
			resp.Results[i].Result = &tokenv1.RecordResult_Already{Already: &tokenv1.Already{}}
		}
		count(ctx, "Record", map[bool]string{false: "recorded", true: "already"}[known[id]])
		known[id] = true // the same item once more in this call
	}
	return resp, s.Index.Confirm(ctx)
}

// storeOptins publishes the facts of an import and notes where they are stored. One that the stream takes for a repeat of
// what was erased with its person is published as new.
func (s *Server) storeOptins(ctx context.Context, optins []ledger.Optin, msgs []*nats.Msg) error {
	acks, err := stream.Publish(ctx, s.JS, msgs...)
	if err != nil {
		return fault.Later(time.Second, "jetstream", fmt.Errorf("the opt-ins are not all stored, call again: %w", err))
	}
	var repeats []ledger.Fact
	var at []int
	for i, ack := range acks {
		optins[i].Seq = ack.Sequence
		if ack.Duplicate {
			repeats, at = append(repeats, ledger.Fact{PageID: optins[i].PageID, PSID: optins[i].PSID, Seq: ack.Sequence}), append(at, i)
		}
	}
	erased, err := s.Ledger.Forgotten(ctx, topology.Optins, repeats)
	if err != nil {
		return err
	}
	for j, i := range at {
		if !erased[j] {
			continue
		}
		msgs[i].Header.Del(nats.MsgIdHdr)
		ack, err := s.JS.PublishMsg(ctx, msgs[i])
		if err != nil {
			return fault.Later(time.Second, "jetstream", fmt.Errorf("the opt-ins are not all stored, call again: %w", err))
		}
		optins[i].Seq = ack.Sequence
	}
	return nil
}

// recordMsg is the fact of an import, with the same message id as if the platform had sent it.
func recordMsg(ctx context.Context, item *tokenv1.RecordItem, o ledger.Optin) (*nats.Msg, error) {
	stored := proto.CloneOf(item)
	// Said now, so that reading the fact again gives the same permission.
	stored.OptedInAt, stored.ExpiresAt = timestamppb.New(o.OptedInAt), timestamppb.New(o.ExpiresAt)
	body, err := proto.Marshal(stored)
	if err != nil {
		return nil, err
	}
	msg := stream.NewMsg(ctx, topology.OptinSubject(o.PageID, o.PSID), "otn:"+o.PageID+":"+o.Token, body)
	msg.Header.Set(topology.HeaderPage, o.PageID)
	msg.Header.Set(topology.HeaderPerson, o.PSID)
	msg.Header.Set(topology.HeaderKind, topology.KindRecord)
	return msg, nil
}

// Grant implements TokenService.
func (s *Server) Grant(ctx context.Context, req *tokenv1.GrantRequest) (*tokenv1.GrantResponse, error) {
	if err := checkItems(len(req.GetItems())); err != nil {
		return nil, err
	}
	var wrong []rpc.Violation
	for i, item := range req.GetItems() {
		at := fmt.Sprintf("items[%d].", i)
		if item.GetSendId() == "" || len(item.GetSendId()) > 64 {
			wrong = append(wrong, rpc.Violation{Field: at + "send_id", Description: "expected 1 to 64 characters"})
		}
		if lease := item.GetLease(); lease != nil && (lease.AsDuration() <= 0 || lease.AsDuration() > MaxLease) {
			wrong = append(wrong, rpc.Violation{Field: at + "lease", Description: "expected more than 0 and at most 10 minutes"})
		}
	}
	if len(wrong) > 0 {
		return nil, rpc.BadRequest(wrong...)
	}
	if err := s.Index.Ready(); err != nil {
		return nil, err
	}
	granted, err := s.Ledger.Grant(ctx, req.GetItems())
	if err != nil {
		return nil, err
	}
	if err := s.Index.Confirm(ctx); err != nil {
		return nil, err
	}
	for _, r := range granted {
		result := "granted"
		if d := r.GetDenied(); d != nil {
			result = d.GetReason().String()
		}
		count(ctx, "Grant", result)
	}
	return &tokenv1.GrantResponse{Results: granted}, nil
}

// Settle implements TokenService: what would change is published first, then applied.
func (s *Server) Settle(ctx context.Context, req *tokenv1.SettleRequest) (*tokenv1.SettleResponse, error) {
	if err := checkItems(len(req.GetItems())); err != nil {
		return nil, err
	}
	if err := s.Index.Ready(); err != nil {
		return nil, err
	}
	resp := &tokenv1.SettleResponse{}
	// One after the other where two items are for one permission, all at once else.
	for _, group := range separate(req.GetItems()) {
		results, err := s.settle(ctx, group)
		if err != nil {
			return nil, err
		}
		resp.Results = append(resp.Results, results...)
	}
	if err := s.Index.Confirm(ctx); err != nil {
		return nil, err
	}
	for _, r := range resp.GetResults() {
		count(ctx, "Settle", fmt.Sprintf("%T", r.GetResult())[len("*tokenv1.SettleResult_"):])
	}
	return resp, nil
}

// separate cuts items into groups, in order, none of which names a permission twice.
func separate(items []*tokenv1.SettleItem) (groups [][]*tokenv1.SettleItem) {
	seen := map[string]bool{}
	begin := 0
	for i, item := range items {
		if key := item.GetPageId() + "\n" + item.GetPermissionId(); !seen[key] {
			seen[key] = true
			continue
		}
		groups = append(groups, items[begin:i])
		begin, seen = i, map[string]bool{item.GetPageId() + "\n" + item.GetPermissionId(): true}
	}
	return append(groups, items[begin:])
}

func (s *Server) settle(ctx context.Context, items []*tokenv1.SettleItem) ([]*tokenv1.SettleResult, error) {
	all := make([]ledger.Settlement, len(items))
	outcomes := make([]*outcomev1.Outcome, len(items))
	for i, item := range items {
		all[i], outcomes[i] = settlement(item)
	}
	answers, err := s.Ledger.Check(ctx, all)
	if err != nil {
		return nil, err
	}
	var facts []ledger.Settlement
	var msgs []*nats.Msg
	var at []int
	for i, a := range answers {
		if a != ledger.Settled || all[i].Effect == "" {
			continue
		}
		msg, err := outcomeMsg(ctx, outcomes[i])
		if err != nil {
			return nil, err
		}
		facts, msgs, at = append(facts, all[i]), append(msgs, msg), append(at, i)
	}
	if len(facts) > 0 {
		if err := stream.PublishAll(ctx, s.JS, msgs...); err != nil {
			return nil, fault.Later(time.Second, "jetstream", fmt.Errorf("the outcomes are not all stored, call again: %w", err))
		}
		applied, err := s.Ledger.Apply(ctx, facts)
		if err != nil {
			return nil, err
		}
		for j, i := range at {
			// Already: the consumer of OUTCOMES was faster with this very fact.
			if answers[i] = applied[j]; applied[j] == ledger.Already {
				answers[i] = ledger.Settled
			}
		}
	}
	results := make([]*tokenv1.SettleResult, len(items))
	for i, item := range items {
		results[i] = settleResult(item, all[i], answers[i])
	}
	return results, nil
}

func settleResult(item *tokenv1.SettleItem, s ledger.Settlement, a ledger.Answer) *tokenv1.SettleResult {
	r := &tokenv1.SettleResult{PermissionId: item.GetPermissionId(), SendId: item.GetSendId()}
	switch {
	case s.Effect == "":
		r.Result = &tokenv1.SettleResult_Invalid{Invalid: &tokenv1.Invalid{Reason: "outcome: expected one of spent, released, void, unknown"}}
	case a == ledger.Missing:
		r.Result = &tokenv1.SettleResult_Invalid{Invalid: &tokenv1.Invalid{Reason: "permission_id: there is no such permission on this page"}}
	case a == ledger.Settled:
		r.Result = &tokenv1.SettleResult_Settled{Settled: &tokenv1.Settled{}}
	case a == ledger.Already:
		r.Result = &tokenv1.SettleResult_Already{Already: &tokenv1.Already{}}
	default:
		r.Result = &tokenv1.SettleResult_StaleFence{StaleFence: &tokenv1.StaleFence{}}
	}
	return r
}

// settlement reads an item: what it does to the permission (nothing, when no outcome is given), and the fact to publish.
func settlement(item *tokenv1.SettleItem) (ledger.Settlement, *outcomev1.Outcome) {
	s := ledger.Settlement{PageID: item.GetPageId(), PermissionID: item.GetPermissionId(), SendID: item.GetSendId(), Fence: item.GetFence()}
	o := &outcomev1.Outcome{
		PageId: s.PageID, PermissionId: s.PermissionID, SendId: s.SendID, Fence: s.Fence, Final: true, At: timestamppb.Now(),
	}
	switch what := item.GetOutcome().(type) {
	case *tokenv1.SettleItem_Spent:
		s.Effect, o.Verdict = ledger.Spend, verdict.Sent
		s.MessageID, o.MessageId = what.Spent.GetMessageId(), what.Spent.GetMessageId()
	case *tokenv1.SettleItem_Released:
		s.Effect, o.Verdict, o.Released, o.Reason = ledger.Release, verdict.Cancelled, true, what.Released.GetReason()
		// A reason that is a verdict is the verdict.
		if verdict.Effects[o.GetReason()] == verdict.Releases {
			o.Verdict = o.GetReason()
		}
		if t := what.Released.GetNotBefore(); t != nil {
			s.NotBefore, o.NotBefore = t.AsTime(), t
		}
	case *tokenv1.SettleItem_Void:
		s.Effect, o.Verdict, o.Reason = ledger.Void, verdict.TokenInvalid, what.Void.GetReason()
	case *tokenv1.SettleItem_Unknown:
		s.Effect, o.Verdict, o.Reason, o.Final = ledger.Cloud, verdict.Unclear, what.Unknown.GetReason(), false
	}
	return s, o
}

func outcomeMsg(ctx context.Context, o *outcomev1.Outcome) (*nats.Msg, error) {
	shard, ok := ids.PermissionShard(o.GetPermissionId())
	if !ok {
		return nil, fault.New(fault.Invalid, "bad_permission_id", fmt.Errorf("permission_id %q", o.GetPermissionId()))
	}
	body, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(o)
	if err != nil {
		return nil, err
	}
	id := fmt.Sprintf("settle:%s:%s:%d:%s", o.GetPermissionId(), o.GetSendId(), o.GetFence(), o.GetVerdict())
	return stream.NewMsg(ctx, topology.OutcomeSubject(o.GetPageId(), shard, o.GetVerdict()), id, body), nil
}

func checkItems(n int) error {
	if n == 0 || n > MaxItems {
		return rpc.BadRequest(rpc.Violation{Field: "items", Description: fmt.Sprintf("%d, expected 1 to %d", n, MaxItems)})
	}
	return nil
}

func notFound(what string) error { return status.Error(codes.NotFound, "there is no such "+what) }
