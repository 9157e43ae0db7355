package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/pkg/rpc"
	"github.com/onebell/onebell/pkg/testkit"
	alertv1 "github.com/onebell/onebell/proto/onebell/alert/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/services/onebell"
	"github.com/onebell/onebell/services/onebell/internal/ready"
)

// fake answers as the services do, for the forms of the answers.
type fake struct {
	tokenv1.UnimplementedTokenServiceServer
	alertv1.UnimplementedAlertServiceServer
	published chan *alertv1.PublishEventsRequest
}

func (f *fake) Count(context.Context, *tokenv1.CountRequest) (*tokenv1.CountResponse, error) {
	return &tokenv1.CountResponse{Counts: []*tokenv1.TopicCount{{PageId: "1", Topic: "stock:A", Waiting: 3}}}, nil
}

func (f *fake) ListWaiting(r *tokenv1.ListWaitingRequest, out grpc.ServerStreamingServer[tokenv1.ListWaitingResponse]) error {
	if r.GetTopic() == "stock:NOBODY" {
		return nil
	}
	one := &tokenv1.Permission{
		PermissionId: "00ab", PageId: r.GetPageId(), Psid: "7", Kind: tokenv1.Kind_KIND_OTN, Topic: r.GetTopic(),
		Wish: &tokenv1.Wish{Qty: 2}, State: tokenv1.PermissionState_PERMISSION_STATE_WAITING,
		OptedInAt: timestamppb.New(time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)),
	}
	for _, cursor := range []string{"more", ""} {
		if err := out.Send(&tokenv1.ListWaitingResponse{Permissions: []*tokenv1.Permission{one, one}, Cursor: cursor}); err != nil {
			return err
		}
	}
	return nil
}

func (f *fake) PublishEvents(_ context.Context, r *alertv1.PublishEventsRequest) (*alertv1.PublishEventsResponse, error) {
	if r.GetEvents()[0].GetStock().GetAvailable() < 0 {
		return nil, rpc.BadRequest(rpc.Violation{Field: "events[0].stock.available", Description: "is negative"})
	}
	f.published <- r
	return &alertv1.PublishEventsResponse{Accepted: 1}, nil
}

func (f *fake) Explain(_ context.Context, r *alertv1.ExplainRequest) (*alertv1.ExplainResponse, error) {
	switch r.GetPsid() {
	case "7":
		return &alertv1.ExplainResponse{Steps: []*alertv1.Step{{Kind: alertv1.StepKind_STEP_KIND_OPTED_IN, Topic: "stock:A", PermissionId: "00ab"}}}, nil
	case "busy":
		return nil, status.Error(codes.Unavailable, "the index is being rebuilt")
	}
	return &alertv1.ExplainResponse{}, nil
}

// serve serves the fake and gives the environment in which the commands find it.
func serve(t *testing.T) (f *fake, environ []string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f = &fake{published: make(chan *alertv1.PublishEventsRequest, 1)}
	srv := rpc.NewServer(nil, nil, testkit.Log(t))
	tokenv1.RegisterTokenServiceServer(srv, f)
	alertv1.RegisterAlertServiceServer(srv, f)
	testkit.Run(t, "fake", rpc.Serve("fake", ln, srv).Run)
	path := filepath.Join(t.TempDir(), "ready.json")
	if err := ready.Write(path, ready.File{TokenGRPC: ln.Addr().String(), AlertGRPC: ln.Addr().String()}); err != nil {
		t.Fatal(err)
	}
	return f, []string{"ONEBELL_READY_FILE=" + path}
}

// run runs a command line.
func run(t *testing.T, environ []string, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	code = onebell.Main(t.Context(), args, environ, &o, &e)
	return code, o.String(), e.String()
}

// decode reads the one JSON document that a command printed.
func decode[T any](t *testing.T, out string) T {
	t.Helper()
	var v T
	dec := json.NewDecoder(strings.NewReader(out))
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("not JSON: %v in:\n%s", err, out)
	}
	if dec.More() {
		t.Fatalf("more than one document:\n%s", out)
	}
	return v
}

func TestCount(t *testing.T) {
	t.Parallel()
	_, environ := serve(t)
	code, out, errOut := run(t, environ, "permissions", "count", "--page", "1", "--json")
	rows := decode[[]map[string]any](t, out)
	if code != lifecycle.ExitDone || len(rows) != 1 || rows[0]["waiting"] != "3" || rows[0]["spent"] != "0" || rows[0]["page_id"] != "1" {
		t.Errorf("status %d: %s%s", code, out, errOut)
	}
	code, out, _ = run(t, environ, "permissions", "count", "--page", "1")
	if code != lifecycle.ExitDone || !strings.Contains(out, "TOPIC    WAITING") || !strings.Contains(out, "stock:A  3") {
		t.Errorf("status %d:\n%s", code, out)
	}
}

func TestListWaiting(t *testing.T) {
	t.Parallel()
	_, environ := serve(t)
	code, out, errOut := run(t, environ, "permissions", "list", "--page", "1", "--topic", "stock:A", "--json")
	rows := decode[[]map[string]any](t, out)
	if code != lifecycle.ExitDone || len(rows) != 4 || errOut != "" {
		t.Fatalf("status %d, %d rows: %s", code, len(rows), errOut)
	}
	for name, want := range map[string]any{
		"permission_id": "00ab", "state": "PERMISSION_STATE_WAITING", "kind": "KIND_OTN", "opted_in_at": "2026-11-22T10:00:00Z",
	} {
		if rows[0][name] != want {
			t.Errorf("%s = %v, want %v", name, rows[0][name], want)
		}
	}
	code, out, errOut = run(t, environ, "permissions", "list", "--page", "1", "--topic", "stock:A", "--limit", "3", "--json")
	if rows := decode[[]any](t, out); code != lifecycle.ExitDone || len(rows) != 3 || !strings.Contains(errOut, "--limit") {
		t.Errorf("status %d, %d rows, remark %q", code, len(rows), errOut)
	}
	code, out, _ = run(t, environ, "permissions", "list", "--page", "1", "--topic", "stock:NOBODY", "--json")
	if code != lifecycle.ExitDone || strings.TrimSpace(out) != "[]" {
		t.Errorf("status %d: %s, want an empty list", code, out)
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	f, environ := serve(t)
	code, out, errOut := run(t, environ, "event", "stock", "--shop", "s", "--sku", "A", "--available", "80", "--event-id", "wms-1", "--tag", "a,b", "--title", "Rad", "--json")
	answer := decode[map[string]any](t, out)
	if code != lifecycle.ExitDone || answer["accepted"] != "1" || answer["event_id"] != "wms-1" {
		t.Fatalf("status %d: %s%s", code, out, errOut)
	}
	event := (<-f.published).GetEvents()[0]
	if event.GetShop() != "s" || event.GetSku() != "A" || event.GetStock().GetAvailable() != 80 || event.GetProduct().GetTags()[0] != "a,b" {
		t.Errorf("published %v", event)
	}

	_, out, _ = run(t, environ, "event", "price", "--sku", "A", "--amount", "49.90", "--currency", "EUR", "--was", "64.90")
	event = (<-f.published).GetEvents()[0]
	if event.GetPrice().GetAmount() != "49.90" || event.GetPrice().GetWas() != "64.90" || event.GetEventId() == "" || !strings.Contains(out, event.GetEventId()) {
		t.Errorf("published %v, said %s", event, out)
	}

	_, _, _ = run(t, environ, "event", "sale", "--sku", "A", "--starts-at", "2026-12-01T09:00:00Z")
	event = (<-f.published).GetEvents()[0]
	if event.GetSale().GetStartsAt().AsTime().Unix() != 1796115600 {
		t.Errorf("published %v", event)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	_, environ := serve(t)
	code, out, _ := run(t, environ, "explain", "--page", "1", "--psid", "7", "--json")
	answer := decode[struct{ Steps []map[string]any }](t, out)
	if code != lifecycle.ExitDone || len(answer.Steps) != 1 || answer.Steps[0]["kind"] != "STEP_KIND_OPTED_IN" {
		t.Errorf("status %d: %s", code, out)
	}
	code, out, _ = run(t, environ, "explain", "--page", "1", "--send", "none", "--json")
	if answer := decode[map[string]any](t, out); code != lifecycle.ExitFailed || answer["steps"] == nil {
		t.Errorf("status %d: %s, want 1 and no steps", code, out)
	}
}

func TestExitStatuses(t *testing.T) {
	t.Parallel()
	_, environ := serve(t)
	nobody := []string{"ONEBELL_TOKEN_ADDR=127.0.0.1:1", "ONEBELL_ALERT_ADDR=127.0.0.1:1", "ONEBELL_NATS_URL=nats://127.0.0.1:1"}
	for _, c := range []struct {
		name    string
		environ []string
		args    string
		status  int
		says    string
	}{
		{"help", nil, "--help", lifecycle.ExitDone, ""},
		{"version", nil, "--version", lifecycle.ExitDone, ""},
		{"unknown command", nil, "dance", lifecycle.ExitBadUsage, "dance"},
		{"missing flag", nil, "permissions count", lifecycle.ExitBadUsage, "--page"},
		{"two subjects", nil, "explain --page 1 --psid 2 --send 3", lifecycle.ExitBadUsage, "--send"},
		{"bad time", nil, "event sale --sku A --starts-at tomorrow", lifecycle.ExitBadUsage, "starts-at"},
		{"bad limit", nil, "permissions list --page 1 --topic t --limit 0", lifecycle.ExitBadUsage, "--limit"},
		{"refused field", environ, "event stock --sku A --available=-1", lifecycle.ExitBadUsage, "events[0].stock.available: is negative"},
		{"not ready", environ, "explain --page 1 --psid busy", lifecycle.ExitUnreached, "rebuilt"},
		{"token service away", nobody, "permissions count --page 1", lifecycle.ExitUnreached, "ONEBELL_TOKEN_ADDR"},
		{"alert service away", nobody, "event stock --sku A --available 1", lifecycle.ExitUnreached, "ONEBELL_ALERT_ADDR"},
		{"NATS away", nobody, "dead list", lifecycle.ExitUnreached, "ONEBELL_NATS_URL"},
		{"no ready file", nil, "permissions count --page 1 --ready-file /nowhere/ready.json", lifecycle.ExitUnreached, "/nowhere/ready.json"},
		{"no address", []string{"ONEBELL_TOKEN_ADDR=junk"}, "permissions count --page 1", lifecycle.ExitBadUsage, "expected host:port"},
		{"no token file", environ, "permissions count --page 1 --token-file /nowhere/token", lifecycle.ExitBadUsage, "/nowhere/token"},
		{"no rules file", nil, "rules check /nowhere/rules.yaml", lifecycle.ExitBadUsage, "/nowhere/rules.yaml"},
		{"bad rules", nil, "rules check testdata/bad_rules.yaml", lifecycle.ExitFailed, ""},
		{"good rules", nil, "rules check ../up/demo/rules.yaml", lifecycle.ExitDone, ""},
		{"good pages", nil, "pages check ../up/demo/pages.yaml", lifecycle.ExitDone, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			code, out, errOut := run(t, c.environ, strings.Fields(c.args)...)
			if code != c.status || !strings.Contains(errOut, c.says) {
				t.Errorf("status %d, want %d; said:\n%s%s", code, c.status, out, errOut)
			}
		})
	}
}

func TestRulesCheckAsJSON(t *testing.T) {
	t.Parallel()
	_, out, _ := run(t, nil, "rules", "check", "--json", "testdata/bad_rules.yaml")
	answer := decode[struct {
		OK       bool
		Problems []string
	}](t, out)
	if answer.OK || len(answer.Problems) == 0 || !strings.Contains(answer.Problems[0], "rules.yaml:2:") {
		t.Errorf("answer = %+v, want the place of the mistake", answer)
	}
}
