package server

import (
	"context"
	"fmt"
	"time"

	"github.com/onebell/onebell/pkg/rpc"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/services/token/internal/topic"
)

// MaxWithin bounds how far Expiring looks ahead: no permission lives longer.
const MaxWithin = 400 * 24 * time.Hour

// Topics implements TokenService.
func (s *Server) Topics(ctx context.Context, req *tokenv1.TopicsRequest) (*tokenv1.TopicsResponse, error) {
	n := int(req.GetPageSize())
	if n == 0 {
		n = 500
	}
	wrong := required("page_id", req.GetPageId())
	if n < 0 || n > MaxItems {
		wrong = append(wrong, rpc.Violation{Field: "page_size", Description: fmt.Sprintf("%d, expected at most %d", n, MaxItems)})
	}
	for _, f := range [][2]string{{"prefix", req.GetPrefix()}, {"cursor", req.GetCursor()}} {
		if len(f[1]) > topic.MaxLen {
			wrong = append(wrong, rpc.Violation{Field: f[0], Description: fmt.Sprintf("expected at most %d characters", topic.MaxLen)})
		}
	}
	if len(wrong) > 0 {
		return nil, rpc.BadRequest(wrong...)
	}
	if err := s.Index.Ready(); err != nil {
		return nil, err
	}
	counts, more, err := s.Ledger.Topics(ctx, req.GetPageId(), req.GetPrefix(), req.GetCursor(), n)
	if err != nil {
		return nil, err
	}
	resp := &tokenv1.TopicsResponse{Topics: counts}
	if more {
		resp.Cursor = counts[len(counts)-1].GetTopic()
	}
	return resp, s.Index.Confirm(ctx)
}

// Expiring implements TokenService.
func (s *Server) Expiring(ctx context.Context, req *tokenv1.ExpiringRequest) (*tokenv1.ExpiringResponse, error) {
	var wrong []rpc.Violation
	if within := req.GetWithin().AsDuration(); within <= 0 || within > MaxWithin || req.GetWithin().CheckValid() != nil {
		wrong = append(wrong, rpc.Violation{Field: "within", Description: "expected more than 0 and at most 400 days"})
	}
	if len(req.GetPageId()) > maxID {
		wrong = append(wrong, rpc.Violation{Field: "page_id", Description: "expected at most 64 characters"})
	}
	if len(wrong) > 0 {
		return nil, rpc.BadRequest(wrong...)
	}
	if err := s.Index.Ready(); err != nil {
		return nil, err
	}
	pages := []string{req.GetPageId()}
	if req.GetPageId() == "" {
		var err error
		if pages, err = s.Ledger.Pages(ctx); err != nil {
			return nil, err
		}
	}
	resp := &tokenv1.ExpiringResponse{}
	for _, page := range pages {
		counts, err := s.Ledger.Expiring(ctx, page, req.GetWithin().AsDuration())
		if err != nil {
			return nil, err
		}
		resp.Counts = append(resp.Counts, counts...)
	}
	return resp, s.Index.Confirm(ctx)
}
