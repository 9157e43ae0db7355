package waves

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onebell/onebell/pkg/fault"
	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/proto/ids"
	outcomev1 "github.com/onebell/onebell/proto/onebell/outcome/v1"
	sendv1 "github.com/onebell/onebell/proto/onebell/send/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/alert/internal/choose"
)

// step is the work on one wave message.
type step struct {
	desk  Desk
	wave  *sendv1.Wave
	page  pages.Page
	offer choose.Offer

	sends  []*sendv1.Send
	passed []*outcomev1.Outcome
	next   *sendv1.Wave
}

var people = func() metric.Int64Counter {
	c, _ := otel.Meter("onebell/alert").Int64Counter("onebell_people", metric.WithDescription("people that alerts chose, by kind and verdict (chosen: a send was made)"))
	return c
}()

// choose reads who waits, in order, and decides for each, until the chunk or the wave is full or nobody is left. A wave with
// few places is read in pages of as many, because only the end of a page can be gone on from.
func (s *step) choose(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	cursor, looked := s.wave.GetCursor(), 0
	begun := time.Now()
	for {
		size := chunk - looked
		if s.wave.GetLimited() {
			size = int(min(int64(size), s.wave.GetLeft()))
		}
		answer, err := s.list(ctx, cursor, size)
		if err != nil {
			return err
		}
		s.decide(ctx, answer)
		cursor = answer.GetCursor()
		looked += len(answer.GetPermissions())
		full := s.wave.GetLimited() && s.wave.GetLeft() == 0
		if full || cursor == "" || looked >= chunk || time.Since(begun) > readLimit/2 {
			s.next = s.follow(cursor)
			return nil
		}
	}
}

// maxList is the size of an answer that is still read: a thousand people with all the tags that a person may have.
const maxList = 16 << 20

// list is one page of those who wait; empty when nobody does.
func (s *step) list(ctx context.Context, cursor string, size int) (*tokenv1.ListWaitingResponse, error) {
	ctx, cancel := context.WithCancel(ctx) // ends the stream after its first page
	defer cancel()
	order := tokenv1.Order_ORDER_OLDEST
	if w := s.offer.Rule.Waves; w != nil && w.Newest {
		order = tokenv1.Order_ORDER_NEWEST
	}
	list, err := s.desk.Token.ListWaiting(ctx, &tokenv1.ListWaitingRequest{
		PageId: s.page.ID, Topic: s.wave.GetAlert().GetTopic(), Order: order, PageSize: int32(size), Cursor: cursor,
	}, grpc.MaxCallRecvMsgSize(maxList))
	if err != nil {
		return nil, away(err)
	}
	answer, err := list.Recv()
	if errors.Is(err, io.EOF) {
		return &tokenv1.ListWaitingResponse{}, nil
	}
	if err != nil {
		return nil, away(err)
	}
	return answer, nil
}

// away is an error of the token service; the wave comes again when the service asks for it, else soon.
func away(err error) error {
	wrapped := fmt.Errorf("list who waits: %w", err)
	for _, detail := range status.Convert(err).Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok && retry.GetRetryDelay().AsDuration() > 0 {
			return fault.Later(retry.GetRetryDelay().AsDuration(), "token_away", wrapped)
		}
	}
	return fault.New(fault.Unavailable, "token_away", wrapped)
}

// decide chooses among one page of those who wait.
func (s *step) decide(ctx context.Context, answer *tokenv1.ListWaitingResponse) {
	counts := map[string]int64{}
	for i, p := range answer.GetPermissions() {
		var who *tokenv1.Person
		if i < len(answer.GetPeople()) {
			who = answer.GetPeople()[i]
		}
		choice := s.offer.For(p, who)
		s.desk.failures.note(ctx, s.offer.Rule.Kind, choice.Failed, s.desk.Log)
		if choice.Send == nil {
			s.passed = append(s.passed, s.passOver(p, choice))
			counts[choice.Verdict]++
			continue
		}
		s.sends = append(s.sends, choice.Send)
		counts["chosen"]++
		if s.wave.GetLimited() {
			s.wave.Left--
		}
	}
	for verdict, n := range counts {
		people.Add(ctx, n, metric.WithAttributes(attribute.String("kind", s.offer.Rule.Kind), attribute.String("verdict", verdict)))
	}
}

func (s *step) passOver(p *tokenv1.Permission, c choose.Choice) *outcomev1.Outcome {
	alertID := s.wave.GetAlert().GetAlertId()
	return &outcomev1.Outcome{
		PageId: s.page.ID, PermissionId: p.GetPermissionId(), Psid: p.GetPsid(), Topic: p.GetTopic(), AlertId: alertID,
		SendId: ids.Send(alertID, p.GetPermissionId()), Verdict: c.Verdict, Final: true, Reason: c.Reason, At: timestamppb.Now(),
	}
}

// store publishes packs and outcomes, and only when all are stored the next step.
func (s *step) store(ctx context.Context) error {
	var msgs []*nats.Msg
	for rest := s.sends; len(rest) > 0; {
		n := min(len(rest), packSize(s.page))
		msg, err := s.pack(ctx, rest[:n])
		if err != nil {
			return err
		}
		msgs = append(msgs, msg)
		rest = rest[n:]
	}
	for _, o := range s.passed {
		msg, err := outcome(ctx, o)
		if err != nil {
			return err
		}
		msgs = append(msgs, msg)
	}
	if err := stream.PublishAll(ctx, s.desk.JS, msgs...); err != nil {
		return fmt.Errorf("store sends: %w", err)
	}
	if s.next == nil {
		return nil
	}
	msg, err := message(ctx, s.next)
	if err != nil {
		return err
	}
	if err := stream.PublishAll(ctx, s.desk.JS, msg); err != nil {
		return fmt.Errorf("store next wave: %w", err)
	}
	return nil
}

// maxPack bounds a pack whatever the page's pace: it is one message, taken and acknowledged as a whole.
const maxPack = 64

// packSize is about a second of the page's pace, so that a pack is done long before its AckWait.
func packSize(p pages.Page) int { return min(maxPack, max(1, int(p.SendsPerSecond))) }

func (s *step) pack(ctx context.Context, sends []*sendv1.Send) (*nats.Msg, error) {
	body, err := proto.Marshal(&sendv1.Pack{PageId: s.page.ID, Sends: sends})
	if err != nil {
		return nil, fmt.Errorf("write pack: %w", err)
	}
	// All of them make the id: a step that is repeated after a crash may find somebody new between the same first and last.
	all := sha256.New()
	for _, send := range sends {
		all.Write([]byte(send.GetSendId() + "\n"))
	}
	return stream.NewMsg(ctx, topology.SendSubject(s.page.ID, topology.Normal), hex.EncodeToString(all.Sum(nil)[:16]), body), nil
}

func outcome(ctx context.Context, o *outcomev1.Outcome) (*nats.Msg, error) {
	body, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("write outcome: %w", err)
	}
	shard, ok := ids.PermissionShard(o.GetPermissionId())
	if !ok {
		shard = ids.Shard(o.GetPsid())
	}
	subject := topology.OutcomeSubject(o.GetPageId(), shard, o.GetVerdict())
	return stream.NewMsg(ctx, subject, o.GetSendId()+":0:"+o.GetVerdict(), body), nil
}
