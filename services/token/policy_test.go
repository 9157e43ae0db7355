package token_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/onebell/onebell/pkg/testkit"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/topology"
)

// policy publishes what the platform says of the page.
func (w *world) policy(key, action string, at time.Time) {
	w.t.Helper()
	w.event("", "policy", fmt.Sprintf("policy:%s:%d", page, time.Now().UnixNano()),
		fmt.Sprintf(`{"recipient":{"id":%q},"timestamp":%d,%q:{"action":%q,"reason":"Excessive unwanted messages."}}`, page, at.UnixMilli(), key, action))
	w.worked()
}

// refusal is why a permission is refused to a send; unspecified when it is granted.
func (w *world) refusal(id, send, topic string) tokenv1.DenialReason {
	w.t.Helper()
	return w.grant(id, send, topic).GetDenied().GetReason()
}

func TestABlockedPageGrantsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := w.start()
	id, spent := w.optin("1", "t1", "stock:A"), w.optin("2", "t2", "stock:A")
	w.eventually("stock:A", 2, 0, 0, 0, 0, 0, 0)
	g := w.grant(spent, "s", "stock:A").GetGranted()
	if _, err := w.client.Settle(t.Context(), &tokenv1.SettleRequest{Items: []*tokenv1.SettleItem{
		{PageId: page, PermissionId: spent, SendId: "s", Fence: g.GetFence(), Outcome: &tokenv1.SettleItem_Spent{Spent: &tokenv1.Spent{MessageId: "m"}}},
	}}); err != nil {
		t.Fatal(err)
	}
	now := time.Now().Add(-time.Minute)
	paused := func(when string) {
		t.Helper()
		for send, want := range map[string]tokenv1.DenialReason{
			"stock:A": tokenv1.DenialReason_DENIAL_REASON_PAGE_PAUSED,
			"stock:B": tokenv1.DenialReason_DENIAL_REASON_TOPIC_MISMATCH,
		} {
			if got := w.refusal(id, "x", send); got != want {
				t.Errorf("%s: %s: %v, want %v", when, send, got, want)
			}
		}
		if got := w.refusal(spent, "x", "stock:A"); got != tokenv1.DenialReason_DENIAL_REASON_ALREADY_SPENT {
			t.Errorf("%s: spent: %v", when, got)
		}
		w.eventually("stock:A", 1, 0, 0, 1, 0, 0, 0)
	}
	w.policy("policy_enforcement", "warning", now)
	if n := w.facts(topology.People, topology.PageSubject(page)); n != 0 {
		t.Errorf("a warning left %d facts", n)
	}
	w.policy("policy_enforcement", "block", now.Add(2*time.Second))
	paused("blocked")
	w.policy("policy_enforcement", "unblock", now.Add(time.Second))
	paused("unblocked before it was blocked")
	stop()
	if err := w.rdb.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	w.start()
	paused("rebuilt")

	w.policy("policy-enforcement", "unblock", now.Add(3*time.Second))
	w.policy("policy_enforcement", "block", now.Add(2*time.Second))
	testkit.Eventually(t, "the page is no longer paused", func() bool {
		return w.refusal(id, "x", "stock:A") == tokenv1.DenialReason_DENIAL_REASON_UNSPECIFIED
	})
}
