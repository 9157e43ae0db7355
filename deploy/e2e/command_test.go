package e2e_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onebell/onebell/deploy/e2e/rig"
	"github.com/onebell/onebell/proto/ids"
)

// The command line against a running Onebell: what it publishes and tells, and the exit statuses that scripts rely on.
func TestCommands(t *testing.T) {
	t.Parallel()
	graph := rig.NewGraph(t)
	m := rig.NewMachine(t, rig.Options{Graph: graph})
	topic, permission := "stock:RIESLING", ids.Permission(page.ID, "anna", rig.Token("anna"))
	m.Tap(page, "anna", rig.Token("anna"), topic+"?qty=2")

	var waiting []struct {
		PermissionID string `json:"permission_id"`
		PSID         string `json:"psid"`
		State        string `json:"state"`
		OptedInAt    string `json:"opted_in_at"`
		Wish         struct {
			Qty string `json:"qty"`
		} `json:"wish"`
	}
	answer(t, m, 0, &waiting, "permissions", "list", "--page", page.ID, "--topic", topic, "--json")
	if len(waiting) != 1 || waiting[0].PermissionID != permission || waiting[0].PSID != "anna" || waiting[0].State != "PERMISSION_STATE_WAITING" ||
		waiting[0].Wish.Qty != "2" || !strings.HasSuffix(waiting[0].OptedInAt, "Z") {
		t.Errorf("permissions list: %+v", waiting)
	}

	if res := m.Command("event", "stock", "--shop", page.Shop, "--sku", "RIESLING", "--available", "80", "--event-id", "cli-1",
		"--title", "The RIESLING", "--url", "https://shop.example/p/RIESLING"); res.Status != 0 {
		t.Fatalf("event stock: %+v", res)
	}
	call := graph.Await(1)[0]
	if want := page.SendID("anna", rig.Token("anna"), topic, "cli-1"); call.Body.Message.Metadata != want {
		t.Errorf("metadata %q, expected %q", call.Body.Message.Metadata, want)
	}
	m.AwaitState(page, "anna", rig.Token("anna"), spent)

	var counts []struct{ Topic, Waiting, Spent string }
	answer(t, m, 0, &counts, "permissions", "count", "--page", page.ID, "--json")
	if len(counts) != 1 || counts[0].Topic != topic || counts[0].Waiting != "0" || counts[0].Spent != "1" {
		t.Errorf("permissions count: %+v", counts)
	}

	for _, subject := range [][]string{{"--psid", "anna"}, {"--permission", permission}, {"--send", call.Body.Message.Metadata}} {
		var story struct {
			Steps []step `json:"steps"`
		}
		answer(t, m, 0, &story, slices.Concat([]string{"explain", "--page", page.ID, "--json"}, subject)...)
		var steps []string
		for _, s := range story.Steps {
			steps = append(steps, strings.TrimPrefix(s.Kind, "STEP_KIND_")+" "+s.Verdict)
		}
		told := strings.Join(steps, ", ")
		for _, part := range []string{"OPTED_IN", "ATTEMPTED", "SETTLED sent"} {
			if !strings.Contains(told, part) {
				t.Errorf("explain %s: %s, expected %s in it", subject[0], told, part)
			}
		}
		if !slices.IsSortedFunc(story.Steps, func(a, b step) int { return a.At.Compare(b.At) }) {
			t.Errorf("explain %s: not oldest first: %+v", subject[0], story.Steps)
		}
	}
}

// step is one thing that happened, as explain tells it.
type step struct {
	At            time.Time
	Kind, Verdict string
}

// answer runs a command and reads the one JSON document that it prints.
func answer(t *testing.T, m *rig.Machine, status int, into any, args ...string) {
	t.Helper()
	res := m.Command(args...)
	if res.Status != status {
		t.Errorf("%v: status %d, expected %d\n%s%s", args, res.Status, status, res.Stdout, res.Stderr)
	}
	if err := json.Unmarshal([]byte(res.Stdout), into); err != nil {
		t.Errorf("%v: not one JSON document: %v\n%s", args, err, res.Stdout)
	}
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	m := rig.NewMachine(t, rig.Options{Graph: rig.NewGraph(t)})
	nowhere := []string{"--ready-file", filepath.Join(t.TempDir(), "none.json")}
	for _, c := range []struct {
		status int
		args   []string
	}{
		{0, []string{"--version"}},
		{0, []string{"--help"}},
		{0, []string{"permissions", "list", "--page", page.ID, "--topic", "stock:NOBODY-ASKED"}},
		{0, []string{"permissions", "count", "--page", page.ID, "--json"}},
		{1, []string{"explain", "--page", page.ID, "--psid", "stranger"}},
		{2, []string{"permissions", "list"}},
		{2, []string{"ring"}},
		{2, []string{"event", "stock", "--sku", "HAT", "--available", "-1"}},
		{2, []string{"event", "price", "--sku", "HAT", "--amount", "cheap", "--currency", "EUR"}},
		{3, slices.Concat([]string{"permissions", "count", "--page", page.ID}, nowhere)},
		{3, slices.Concat([]string{"event", "stock", "--sku", "HAT", "--available", "1"}, nowhere)},
	} {
		if res := m.Command(c.args...); res.Status != c.status {
			t.Errorf("onebell %v: status %d, expected %d\n%s%s", c.args, res.Status, c.status, res.Stdout, res.Stderr)
		}
	}
	m.Kill()
	if res := m.Command("permissions", "count", "--page", page.ID); res.Status != 3 {
		t.Errorf("after the kill: %+v", res)
	}
}

// Settings that cannot be used are told all at once, with the variable, and without secrets.
func TestBadSettings(t *testing.T) {
	t.Parallel()
	res := rig.Run(t, "onebell", map[string]string{
		"ONEBELL_TOKEN_ADDR": "nowhere", "ONEBELL_GRAPH_TIMEOUT": "soon", "ONEBELL_SEAL_KEY": "too-short-a-key",
		"ONEBELL_PAGES_FILE": "/nonexistent/pages.yaml",
	}, "up", "--data", t.TempDir())
	if res.Status != 2 {
		t.Errorf("status %d, expected 2", res.Status)
	}
	for _, variable := range []string{"ONEBELL_TOKEN_ADDR", "ONEBELL_GRAPH_TIMEOUT", "ONEBELL_SEAL_KEY", "ONEBELL_PAGES_FILE", "ONEBELL_RULES_FILE"} {
		if !strings.Contains(res.Stderr, variable) {
			t.Errorf("nothing is said of %s:\n%s", variable, res.Stderr)
		}
	}
	if strings.Contains(res.Stderr, "too-short-a-key") {
		t.Errorf("a secret is shown:\n%s", res.Stderr)
	}
}
