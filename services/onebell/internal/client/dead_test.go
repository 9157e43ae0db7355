package client_test

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/pkg/testkit"
	"github.com/onebell/onebell/proto/topology"
)

func TestDeadList(t *testing.T) {
	t.Parallel()
	url, js := testkit.JetStream(t, topology.Configs(1))
	environ := []string{"ONEBELL_NATS_URL=" + url}
	code, out, errOut := run(t, environ, "dead", "list", "--json")
	if code != lifecycle.ExitDone || strings.TrimSpace(out) != "[]" {
		t.Fatalf("empty stream: status %d: %s%s", code, out, errOut)
	}
	headers := nats.Header{
		topology.HeaderPage: {"1"}, topology.HeaderSendID: {"s1"}, topology.HeaderAttempts: {"10"}, topology.HeaderCode: {"100"},
	}
	bury := func(dead, subject string, h nats.Header, reason string) {
		t.Helper()
		if err := stream.Bury(t.Context(), js, dead, subject, h, []byte("body"), reason, "in words"); err != nil {
			t.Fatal(err)
		}
	}
	bury(topology.DeadWebhooks, "webhook", nil, "not_json")
	bury(topology.DeadSubject(topology.Sends), "sends.1.normal", headers, "given_up")

	_, out, _ = run(t, environ, "dead", "list", "--json")
	letters := decode[[]map[string]any](t, out)
	if len(letters) != 2 {
		t.Fatalf("%d letters: %s", len(letters), out)
	}
	for name, want := range map[string]any{
		"seq": "2", "subject": "sends.1.normal", "reason": "given_up", "detail": "in words", "page_id": "1", "send_id": "s1",
		"attempts": 10.0, "code": 100.0,
	} {
		if letters[1][name] != want {
			t.Errorf("%s = %v, want %v", name, letters[1][name], want)
		}
	}
	if _, ok := letters[0]["send_id"]; ok {
		t.Error("a webhook has no send id")
	}

	for filter, want := range map[string]string{"--stream=sends": "2", "--stream=SENDS": "2", "--reason=not_json": "1", "--limit=1": "1"} {
		_, out, _ = run(t, environ, "dead", "list", "--json", filter)
		letters := decode[[]map[string]any](t, out)
		if len(letters) != 1 || letters[0]["seq"] != want {
			t.Errorf("%s lists %v, want letter %s", filter, letters, want)
		}
	}
	_, out, _ = run(t, environ, "dead", "list", "--stream=waves", "--json")
	if strings.TrimSpace(out) != "[]" {
		t.Errorf("nothing of WAVES is dead, but: %s", out)
	}
	// An empty list would be an answer.
	code, out, errOut = run(t, environ, "dead", "list", "--stream=send", "--json")
	if code != lifecycle.ExitBadUsage || out != "" || !strings.Contains(errOut, "sends") {
		t.Errorf("a stream that is none: status %d: %s%s", code, out, errOut)
	}
}
