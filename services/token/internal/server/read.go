package server

import (
	"context"
	"fmt"

	"github.com/shopspring/decimal"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onebell/onebell/pkg/rpc"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/services/token/internal/intake"
	"github.com/onebell/onebell/services/token/internal/ledger"
	"github.com/onebell/onebell/services/token/internal/topic"
)

// ListWaiting implements TokenService.
func (s *Server) ListWaiting(req *tokenv1.ListWaitingRequest, out grpc.ServerStreamingServer[tokenv1.ListWaitingResponse]) error {
	n := int(req.GetPageSize())
	if n == 0 {
		n = 500
	}
	wrong := required("page_id", req.GetPageId(), "topic", req.GetTopic())
	if n < 0 || n > MaxItems {
		wrong = append(wrong, rpc.Violation{Field: "page_size", Description: fmt.Sprintf("%d, expected at most %d", n, MaxItems)})
	}
	if req.GetPrice() != nil && !topic.ValidMoney(req.GetPrice()) {
		wrong = append(wrong, rpc.Violation{Field: "price", Description: "expected an amount above zero like 49.90 and a currency like EUR"})
	}
	if len(wrong) > 0 {
		return rpc.BadRequest(wrong...)
	}
	newest := req.GetOrder() == tokenv1.Order_ORDER_NEWEST
	cursor := req.GetCursor()
	for {
		if err := s.Index.Ready(); err != nil {
			return err
		}
		found, next, err := s.Ledger.List(out.Context(), req.GetPageId(), req.GetTopic(), newest, cursor, n)
		if err != nil {
			return err
		}
		if err := s.Index.Confirm(out.Context()); err != nil {
			return err
		}
		resp := &tokenv1.ListWaitingResponse{Cursor: next}
		for _, w := range found {
			if fulfils(w, req) {
				resp.Permissions, resp.People = append(resp.Permissions, w.Permission), append(resp.People, w.Person)
			}
		}
		if err := out.Send(resp); err != nil {
			return err
		}
		if cursor = next; cursor == "" {
			return nil
		}
	}
}

// fulfils tells whether the request's stock and price fulfil a wish.
func fulfils(w ledger.Waiting, req *tokenv1.ListWaitingRequest) bool {
	wish := w.Permission.GetWish()
	if req.GetAvailable() > 0 && wish.GetQty() > req.GetAvailable() {
		return false
	}
	if req.GetPrice() == nil || wish.GetBelow() == nil {
		return true
	}
	price, err1 := decimal.NewFromString(req.GetPrice().GetAmount())
	target, err2 := decimal.NewFromString(wish.GetBelow().GetAmount())
	return err1 == nil && err2 == nil && req.GetPrice().GetCurrency() == wish.GetBelow().GetCurrency() && price.LessThanOrEqual(target)
}

// Count implements TokenService.
func (s *Server) Count(ctx context.Context, req *tokenv1.CountRequest) (*tokenv1.CountResponse, error) {
	if wrong := required("page_id", req.GetPageId()); len(wrong) > 0 {
		return nil, rpc.BadRequest(wrong...)
	}
	if err := s.Index.Ready(); err != nil {
		return nil, err
	}
	counts, err := s.Ledger.Count(ctx, req.GetPageId(), req.GetTopic())
	if err != nil {
		return nil, err
	}
	return &tokenv1.CountResponse{Counts: counts}, s.Index.Confirm(ctx)
}

// GetPermission implements TokenService.
func (s *Server) GetPermission(ctx context.Context, req *tokenv1.GetPermissionRequest) (*tokenv1.GetPermissionResponse, error) {
	if wrong := required("page_id", req.GetPageId(), "permission_id", req.GetPermissionId()); len(wrong) > 0 {
		return nil, rpc.BadRequest(wrong...)
	}
	if err := s.Index.Ready(); err != nil {
		return nil, err
	}
	p, err := s.Ledger.Permission(ctx, req.GetPageId(), req.GetPermissionId())
	if err != nil {
		return nil, err
	}
	if err := s.Index.Confirm(ctx); err != nil {
		return nil, err
	}
	if p == nil {
		return nil, notFound("permission on this page")
	}
	return &tokenv1.GetPermissionResponse{Permission: p}, nil
}

// GetPerson implements TokenService.
func (s *Server) GetPerson(ctx context.Context, req *tokenv1.GetPersonRequest) (*tokenv1.GetPersonResponse, error) {
	if wrong := required("page_id", req.GetPageId(), "psid", req.GetPsid()); len(wrong) > 0 {
		return nil, rpc.BadRequest(wrong...)
	}
	if err := s.Index.Ready(); err != nil {
		return nil, err
	}
	p, err := s.Ledger.Person(ctx, req.GetPageId(), req.GetPsid())
	if err != nil {
		return nil, err
	}
	if err := s.Index.Confirm(ctx); err != nil {
		return nil, err
	}
	if p == nil {
		return nil, notFound("person on this page")
	}
	return &tokenv1.GetPersonResponse{Person: p}, nil
}

// TagPerson implements TokenService.
func (s *Server) TagPerson(ctx context.Context, req *tokenv1.TagPersonRequest) (*tokenv1.TagPersonResponse, error) {
	wrong := required("page_id", req.GetPageId(), "psid", req.GetPsid())
	for field, tags := range map[string][]string{"add": req.GetAdd(), "remove": req.GetRemove()} {
		if len(tags) > intake.MaxTags || len(intake.ValidTags(tags)) != len(tags) {
			wrong = append(wrong, rpc.Violation{Field: field, Description: fmt.Sprintf("expected at most %d tags of 1 to %d bytes", intake.MaxTags, intake.MaxTag)})
		}
	}
	if len(wrong) > 0 {
		return nil, rpc.BadRequest(wrong...)
	}
	if err := s.Index.Ready(); err != nil {
		return nil, err
	}
	fact := &tokenv1.PersonFact{
		PageId: req.GetPageId(), Psid: req.GetPsid(), At: timestamppb.Now(),
		What: &tokenv1.PersonFact_Tagged{Tagged: &tokenv1.Tagged{Add: req.GetAdd(), Remove: req.GetRemove()}},
	}
	if _, err := s.Intake.Say(ctx, fact, ""); err != nil {
		return nil, err
	}
	p, err := s.Ledger.Person(ctx, req.GetPageId(), req.GetPsid())
	if err != nil {
		return nil, err
	}
	return &tokenv1.TagPersonResponse{Person: p}, s.Index.Confirm(ctx)
}

// StopPerson implements TokenService.
func (s *Server) StopPerson(ctx context.Context, req *tokenv1.StopPersonRequest) (*tokenv1.StopPersonResponse, error) {
	if wrong := required("page_id", req.GetPageId(), "psid", req.GetPsid()); len(wrong) > 0 {
		return nil, rpc.BadRequest(wrong...)
	}
	if err := s.Index.Ready(); err != nil {
		return nil, err
	}
	fact := &tokenv1.PersonFact{PageId: req.GetPageId(), Psid: req.GetPsid(), At: timestamppb.Now(), What: &tokenv1.PersonFact_Stopped{Stopped: &tokenv1.Stopped{}}}
	if req.GetResume() {
		fact.What = &tokenv1.PersonFact_Resumed{Resumed: &tokenv1.Resumed{}}
	}
	changed, err := s.Intake.Say(ctx, fact, "")
	if err != nil {
		return nil, err
	}
	return &tokenv1.StopPersonResponse{Permissions: changed}, s.Index.Confirm(ctx)
}

// required names the fields, given in pairs of name and value, that are empty or too long.
func required(pairs ...string) (wrong []rpc.Violation) {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" || len(pairs[i+1]) > topic.MaxLen {
			wrong = append(wrong, rpc.Violation{Field: pairs[i], Description: fmt.Sprintf("expected 1 to %d characters", topic.MaxLen)})
		}
	}
	return wrong
}
