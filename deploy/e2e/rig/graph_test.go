package rig_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/onebell/onebell/deploy/e2e/rig"
)

func post(t *testing.T, g *rig.Graph, token string) (status int, body string, err error) {
	t.Helper()
	client := http.Client{Timeout: 200 * time.Millisecond}
	res, err := client.Post(g.URL()+"/v25.0/1/messages", "application/json",
		strings.NewReader(`{"recipient":{"one_time_notif_token":"`+token+`"},"message":{"text":"hello","metadata":"s"}}`))
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}

// The Send API of these tests is as strict as they need it to be: everything else rests on that.
func TestGraph(t *testing.T) {
	t.Parallel()
	g := rig.NewGraph(t)
	if status, body, err := post(t, g, "a"); err != nil || status != 200 || !strings.Contains(body, `"message_id":"m_e2e-1"`) {
		t.Fatalf("first use: %d %s %v", status, body, err)
	}
	if status, body, err := post(t, g, "a"); err != nil || status != 400 || !strings.Contains(body, `"code":100`) {
		t.Errorf("second use: %d %s %v", status, body, err)
	}
	g.SingleUse(false)
	if status, _, err := post(t, g, "a"); err != nil || status != 200 {
		t.Errorf("second use where that is allowed: %d %v", status, err)
	}
	g.SingleUse(true)

	g.Answer(func(n int, _ rig.Call) rig.Reply {
		if n == 4 {
			return rig.Refuse(503, 2, 1)
		}
		return rig.Reply{Hang: true}
	})
	if status, body, err := post(t, g, "b"); err != nil || status != 503 || !strings.Contains(body, `"error_subcode":1`) {
		t.Errorf("refused: %d %s %v", status, body, err)
	}
	if status, _, err := post(t, g, "b"); err == nil {
		t.Errorf("a hanging call was answered %d", status)
	}
	if n := len(g.Of("b")); n != 2 || !g.Of("b")[1].Accepted || g.Of("b")[0].Accepted {
		t.Errorf("calls with b: %+v", g.Of("b"))
	}

	g.Down()
	if _, _, err := post(t, g, "c"); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("down: %v", err)
	}
	g.Up()
	g.Answer(func(int, rig.Call) rig.Reply { return rig.Reply{} })
	if status, _, err := post(t, g, "c"); err != nil || status != 200 {
		t.Errorf("up again: %d %v", status, err)
	}
	if n := len(g.Await(4)); n != 4 {
		t.Errorf("%d accepted", n)
	}
}
