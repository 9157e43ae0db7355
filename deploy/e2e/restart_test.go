package e2e_test

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onebell/onebell/deploy/e2e/rig"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
)

// SIGKILL while a hundred sends are under way: after the restart each token is delivered, and exactly once. That holds, too,
// when Redis has lost everything meanwhile: nobody's token is called invalid who got the message.
func TestKilledWhileSending(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(*testing.T, *rig.Machine){
		"Redis kept": func(*testing.T, *rig.Machine) {},
		"Redis lost": loseRedis,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			graph, m := sending(t)
			m.Kill()
			n := len(graph.Accepted())
			meanwhile(t, m)
			m.Up()
			restarted := time.Now()
			graph.Await(hundred)
			// What was in flight is taken up again within 30 s; the rest takes two seconds at this pace.
			took := time.Since(restarted)
			if took > 35*time.Second {
				t.Errorf("the rest was sent %s after the restart", took)
			}
			checkHundred(t, graph, m)
			t.Logf("killed after %d messages; %d calls in all, the last message %s after the restart", n, len(graph.Calls()), took)
		})
	}
}

// SIGTERM while a hundred sends are under way: what was begun is finished, and the rest goes out after the start.
func TestStoppedWhileSending(t *testing.T) {
	t.Parallel()
	graph, m := sending(t)
	m.Stop()
	n := len(graph.Calls())
	if n >= hundred {
		t.Fatal("all were sent before the stop")
	}
	m.Up()
	graph.Await(hundred)
	checkHundred(t, graph, m)
	if n := len(graph.Calls()); n != hundred {
		t.Errorf("%d calls for %d people: an orderly stop leaves nothing unclear", n, hundred)
	}
}

const hundred = 100

// sending starts a machine that sends to a hundred people at 50 a second, and comes back after the thirtieth. Answers take
// a while, so that there are always calls under way.
func sending(t *testing.T) (*rig.Graph, *rig.Machine) {
	t.Helper()
	graph := rig.NewGraph(t)
	graph.Answer(func(int, rig.Call) rig.Reply { return rig.Reply{After: 200 * time.Millisecond} })
	m := rig.NewMachine(t, rig.Options{Graph: graph, Pages: []rig.Page{page.At(50)}})
	m.Crowd(page, "guest", hundred, "stock:RAD-SHIRT-M")
	m.Stock(page, "wms-1", "RAD-SHIRT-M", 500)
	graph.Await(30)
	return graph, m
}

// checkHundred checks that each of the hundred got the message exactly once, and that the ledger knows.
func checkHundred(t *testing.T, graph *rig.Graph, m *rig.Machine) {
	t.Helper()
	rig.Eventually(t, "all are spent", func() bool { return m.Count(page.ID, "stock:RAD-SHIRT-M").GetSpent() == hundred })
	if c := m.Count(page.ID, "stock:RAD-SHIRT-M"); c.GetWaiting()+c.GetGranted()+c.GetUnknown()+c.GetVoid()+c.GetExpired()+c.GetRevoked() != 0 {
		t.Errorf("counts: %v", c)
	}
	accepted, sends := map[string]int{}, map[string]string{}
	for _, c := range graph.Calls() {
		if known, ok := sends[c.Token()]; ok && known != c.Body.Message.Metadata {
			t.Errorf("%s was tried as send %s and as %s", c.Token(), known, c.Body.Message.Metadata)
		}
		sends[c.Token()] = c.Body.Message.Metadata
		if c.Accepted {
			accepted[c.Token()]++
		}
	}
	if len(accepted) != hundred {
		t.Errorf("%d tokens were delivered", len(accepted))
	}
	for token, n := range accepted {
		if n != 1 {
			t.Errorf("%s was delivered %d times", token, n)
		}
	}
	m.Quiet()
	last := map[string]string{}
	for _, o := range m.Outcomes(page) {
		last[o.GetPsid()] = o.GetVerdict()
	}
	for psid, verdict := range last {
		if verdict != "sent" && verdict != "sent_before" {
			t.Errorf("%s: the last verdict is %s, although the message arrived", psid, verdict)
		}
	}
}

// loseRedis deletes the data of a stopped machine's Redis.
func loseRedis(t *testing.T, m *rig.Machine) {
	t.Helper()
	index := filepath.Join(m.Dir, "redis")
	if _, err := os.Stat(index); err != nil {
		t.Fatal(err) // nothing would be shown
	}
	if err := os.RemoveAll(index); err != nil {
		t.Fatal(err)
	}
}

// Redis is an index of the streams: without its data the counts and everything known of people are the same as before.
func TestRedisDataIsLost(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*rig.Machine){"stopped": (*rig.Machine).StopQuickly, "killed": func(m *rig.Machine) { m.Kill() }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			graph := rig.NewGraph(t)
			m := rig.NewMachine(t, rig.Options{Graph: graph})
			m.Like(page, "asks-0", "white-wine")
			m.Crowd(page, "asks", 20, "stock:RIESLING")
			m.Crowd(page, "bought", 10, "stock:RAD-SHIRT-M")
			m.Crowd(page, "left", 3, "price:COAT")
			if _, err := m.Token.StopPerson(t.Context(), &tokenv1.StopPersonRequest{PageId: page.ID, Psid: "left-0"}); err != nil {
				t.Fatal(err)
			}
			m.Stock(page, "wms-1", "RAD-SHIRT-M", 500)
			graph.Await(10)
			rig.Eventually(t, "ten are spent", func() bool { return m.Count(page.ID, "stock:RAD-SHIRT-M").GetSpent() == 10 })
			m.Quiet()
			before := m.Counts(page.ID)

			end(m)
			loseRedis(t, m)
			m.Up()
			if after := m.Counts(page.ID); after != before {
				t.Errorf("counts before:\n%safter:\n%s", before, after)
			}
			if tags := m.Person(page, "asks-0").GetTags(); !slices.Equal(tags, []string{"white-wine"}) {
				t.Errorf("tags: %v", tags)
			}
			if !m.Person(page, "left-0").GetStopped() {
				t.Error("the person who stopped is not stopped any more")
			}
			m.Stock(page, "wms-2", "RAD-SHIRT-M", 0)
			m.Stock(page, "wms-3", "RAD-SHIRT-M", 9)
			m.Stock(page, "wms-4", "RIESLING", 9)
			graph.Await(30)
			m.Quiet()
			if n := len(graph.Calls()); n != 30 {
				t.Errorf("%d calls, expected one for each of 30 people", n)
			}
		})
	}
}

// A second `onebell up` on a data directory leaves the first alone; one that was killed leaves nothing running, and nothing
// that keeps the next from starting.
func TestOneProcessForADataDirectory(t *testing.T) {
	t.Parallel()
	m := rig.NewMachine(t, rig.Options{Graph: rig.NewGraph(t)})
	res := m.Second()
	if res.Status != 1 || res.Stderr == "" {
		t.Errorf("status %d, said %q; expected 1 and who holds it", res.Status, res.Stderr)
	}
	m.Tap(page, "anna", rig.Token("anna"), "stock:RIESLING")
	m.Kill()
	addr := strings.TrimPrefix(m.Addr.Redis, "redis://")
	rig.Eventually(t, "the killed machine's Redis is gone", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	m.Up()
	m.AwaitPermission(page, "anna", rig.Token("anna"))
	m.StopQuickly()
}
