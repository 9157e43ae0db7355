package client_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onebell/onebell/pkg/lifecycle"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
)

func (f *fake) Topics(_ context.Context, r *tokenv1.TopicsRequest) (*tokenv1.TopicsResponse, error) {
	if r.GetCursor() == "" {
		return &tokenv1.TopicsResponse{Topics: []*tokenv1.TopicCount{{PageId: "1", Topic: r.GetPrefix() + "A", Waiting: 3}}, Cursor: "stock:A"}, nil
	}
	return &tokenv1.TopicsResponse{Topics: []*tokenv1.TopicCount{{PageId: "1", Topic: r.GetPrefix() + "B", Spent: 1}}}, nil
}

func (f *fake) Expiring(_ context.Context, r *tokenv1.ExpiringRequest) (*tokenv1.ExpiringResponse, error) {
	return &tokenv1.ExpiringResponse{Counts: []*tokenv1.ExpiringCount{{
		PageId: "1", Topic: "stock:A", Permissions: int64(r.GetWithin().AsDuration() / time.Hour),
		FirstAt: timestamppb.New(time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)),
	}}}, nil
}

func (f *fake) ForgetPerson(_ context.Context, r *tokenv1.ForgetPersonRequest) (*tokenv1.ForgetPersonResponse, error) {
	if r.GetPageId() == "" {
		return &tokenv1.ForgetPersonResponse{Permissions: 5}, nil
	}
	return &tokenv1.ForgetPersonResponse{Permissions: 2}, nil
}

func (f *fake) ExportPerson(_ context.Context, r *tokenv1.ExportPersonRequest) (*tokenv1.ExportPersonResponse, error) {
	switch {
	case r.GetPsid() != "7":
		return nil, status.Error(codes.NotFound, "there is no such person on this page")
	case r.GetCursor() == "":
		return &tokenv1.ExportPersonResponse{Json: `{"page_id":"1","psid":"7","person":{"psid":"7"},"permissions":[{"permission_id":"00ab"}],"facts":[{"stream":"OPTINS"}]}`, Cursor: "EVENTS 3"}, nil
	}
	return &tokenv1.ExportPersonResponse{Json: `{"page_id":"1","psid":"7","facts":[{"stream":"EVENTS"}]}`}, nil
}

func TestTopics(t *testing.T) {
	t.Parallel()
	_, environ := serve(t)
	code, out, errOut := run(t, environ, "permissions", "topics", "--page", "1", "--prefix", "stock:", "--json")
	rows := decode[[]map[string]any](t, out)
	if code != lifecycle.ExitDone || len(rows) != 2 || rows[0]["waiting"] != "3" || rows[1]["topic"] != "stock:B" {
		t.Errorf("status %d: %s%s", code, out, errOut)
	}
	code, out, _ = run(t, environ, "permissions", "topics", "--page", "1")
	if code != lifecycle.ExitDone || !strings.Contains(out, "TOPIC  WAITING") {
		t.Errorf("status %d:\n%s", code, out)
	}
}

func TestExpiring(t *testing.T) {
	t.Parallel()
	_, environ := serve(t)
	code, out, errOut := run(t, environ, "permissions", "expiring", "--within", "24h", "--json")
	rows := decode[[]map[string]any](t, out)
	if code != lifecycle.ExitDone || len(rows) != 1 || rows[0]["permissions"] != "24" || rows[0]["first_at"] != "2026-11-22T10:00:00Z" {
		t.Errorf("status %d: %s%s", code, out, errOut)
	}
	code, out, _ = run(t, environ, "permissions", "expiring")
	if code != lifecycle.ExitDone || !strings.Contains(out, "1     stock:A  720          2026-11-22T10:00:00Z") {
		t.Errorf("status %d:\n%s", code, out)
	}
	if code, _, _ := run(t, environ, "permissions", "expiring", "--within", "-1h"); code != lifecycle.ExitBadUsage {
		t.Errorf("a negative period: status %d", code)
	}
}

func TestForgetPerson(t *testing.T) {
	t.Parallel()
	_, environ := serve(t)
	code, out, errOut := run(t, environ, "people", "forget", "--page", "1", "--psid", "7", "--json")
	if answer := decode[map[string]any](t, out); code != lifecycle.ExitDone || answer["permissions"] != "2" {
		t.Errorf("status %d: %s%s", code, out, errOut)
	}
	code, out, _ = run(t, environ, "people", "forget", "--all-pages", "--psid", "7")
	if code != lifecycle.ExitDone || out != "forgotten; permissions erased: 5\n" {
		t.Errorf("status %d:\n%s", code, out)
	}
	if code, _, _ := run(t, environ, "people", "forget", "--psid", "7"); code != lifecycle.ExitBadUsage {
		t.Errorf("neither a page nor all: status %d", code)
	}
}

func TestExportPerson(t *testing.T) {
	t.Parallel()
	_, environ := serve(t)
	code, out, errOut := run(t, environ, "people", "export", "--page", "1", "--psid", "7")
	answer := decode[map[string]any](t, out)
	facts, _ := answer["facts"].([]any)
	permissions, _ := answer["permissions"].([]any)
	if code != lifecycle.ExitDone || answer["psid"] != "7" || len(facts) != 2 || len(permissions) != 1 {
		t.Errorf("status %d: %s%s", code, out, errOut)
	}
	if code, out, _ := run(t, environ, "people", "export", "--page", "1", "--psid", "8"); code != lifecycle.ExitFailed || out != "" {
		t.Errorf("nobody: status %d, %s", code, out)
	}
}
