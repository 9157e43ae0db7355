package token_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/onebell/onebell/pkg/testkit"
	outcomev1 "github.com/onebell/onebell/proto/onebell/outcome/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/topology"
)

// echo publishes the echo of a send, as kind echo or in standby.
func (w *world) echo(psid, kind, mid, send string) {
	w.t.Helper()
	w.event(psid, kind, kind+":"+page+":"+mid+":"+fmt.Sprint(time.Now().UnixNano()), fmt.Sprintf(
		`{"sender":{"id":%q},"recipient":{"id":%q},"timestamp":%d,"message":{"is_echo":true,"app_id":1,"metadata":%q,"mid":%q,"text":"hello"}}`,
		page, psid, time.Now().UnixMilli(), send, mid))
}

// grantFor grants with a lease, and gives the fence.
func (w *world) grantFor(id, send string, lease time.Duration) uint64 {
	w.t.Helper()
	resp, err := w.client.Grant(w.t.Context(), &tokenv1.GrantRequest{Items: []*tokenv1.GrantItem{
		{PageId: page, PermissionId: id, SendId: send, Topic: "stock:A", Lease: durationpb.New(lease)},
	}})
	if err != nil || resp.GetResults()[0].GetGranted() == nil {
		w.t.Fatalf("grant: %v, %v", resp, err)
	}
	return resp.GetResults()[0].GetGranted().GetFence()
}

func (w *world) permission(id string) *tokenv1.Permission {
	w.t.Helper()
	p, err := w.client.GetPermission(w.t.Context(), &tokenv1.GetPermissionRequest{PageId: page, PermissionId: id})
	if err != nil {
		w.t.Fatal(err)
	}
	return p.GetPermission()
}

const sentBefore = "outcomes.*.*.sent_before"

func TestAnEchoSettlesAnUnclearSend(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := w.start()
	first, second := w.optin("1", "t1", "stock:A"), w.optin("1", "t2", "stock:A")
	w.eventually("stock:A", 2, 0, 0, 0, 0, 0, 0)
	fence := w.grantFor(first, "send-1", time.Minute)
	w.outcome(&outcomev1.Outcome{PermissionId: first, SendId: "send-1", Fence: fence, Verdict: "unclear"})
	w.eventually("stock:A", 1, 0, 1, 0, 0, 0, 0)

	w.echo("1", "echo", "m-x", "send-of-another-app")
	w.echo("2", "echo", "m-x", "send-1") // nobody's
	w.worked()
	if n := w.facts(topology.Outcomes, sentBefore); n != 0 {
		t.Fatalf("%d outcomes for echoes of others", n)
	}
	w.echo("1", "echo", "m-1", "send-1")
	w.eventually("stock:A", 1, 0, 0, 1, 0, 0, 0)
	w.echo("1", "standby", "m-1", "send-1")
	w.outcome(&outcomev1.Outcome{PermissionId: first, SendId: "send-1", Fence: fence, Verdict: "sent", MessageId: "m-2", Final: true})
	w.worked()
	w.settled(topology.Outcomes)
	same := func(when string) {
		t.Helper()
		w.eventually("stock:A", 1, 0, 0, 1, 0, 0, 0)
		if p := w.permission(first); p.GetMessageId() != "m-1" || p.GetSendId() != "send-1" {
			t.Errorf("%s: %v", when, p)
		}
		if n := w.facts(topology.Outcomes, sentBefore); n != 1 {
			t.Errorf("%s: %d outcomes, want 1", when, n)
		}
		person, err := w.client.GetPerson(t.Context(), &tokenv1.GetPersonRequest{PageId: page, Psid: "1"})
		if err != nil || person.GetPerson().GetLastInteractionAt() != nil {
			t.Errorf("%s: the page's own message is taken for the person's: %v, %v", when, person, err)
		}
	}
	same("after a late sent")
	stop()
	if err := w.rdb.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	w.start()
	same("rebuilt")

	// In standby, for a send whose sender has died: its lease runs out.
	w.grantFor(second, "send-2", 300*time.Millisecond)
	w.echo("1", "standby", "m-3", "send-2")
	w.eventually("stock:A", 0, 0, 0, 2, 0, 0, 0)
	if p := w.permission(second); p.GetMessageId() != "m-3" {
		t.Errorf("settled after the lease: %v", p)
	}
}

// The normal course: the echo is faster than the sender's own word, and leaves it to the sender.
func TestAnEchoWaitsForTheSender(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	id := w.optin("1", "t1", "stock:A")
	w.eventually("stock:A", 1, 0, 0, 0, 0, 0, 0)
	fence := w.grantFor(id, "send-1", time.Minute)
	w.echo("1", "echo", "m-1", "send-1")
	testkit.Eventually(t, "the echo is put off", func() bool {
		c, err := w.js.Consumer(t.Context(), topology.Events, "token")
		return err == nil && c.CachedInfo().NumPending == 0 && c.CachedInfo().NumAckPending == 1
	})
	// Others are worked meanwhile.
	w.event("2", "postback", "pb", `{"sender":{"id":"2"},"timestamp":1782900000000,"postback":{"payload":"LIKES:wine"}}`)
	testkit.Eventually(t, "another person is tagged", func() bool {
		p, err := w.client.GetPerson(t.Context(), &tokenv1.GetPersonRequest{PageId: page, Psid: "2"})
		return err == nil && len(p.GetPerson().GetTags()) == 1
	})
	w.eventually("stock:A", 0, 1, 0, 0, 0, 0, 0)
	w.outcome(&outcomev1.Outcome{PermissionId: id, SendId: "send-1", Fence: fence, Verdict: "sent", MessageId: "m-1", Final: true})
	w.eventually("stock:A", 0, 0, 0, 1, 0, 0, 0)
	w.worked()
	if n := w.facts(topology.Outcomes, sentBefore); n != 0 {
		t.Errorf("%d outcomes for an echo whose send was settled by its sender", n)
	}
}
