package ledger_test

import (
	"testing"

	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/services/token/internal/ledger"
)

// A send that was granted before Redis was lost may still say what became of it afterwards.
func TestAGrantFromBeforeRedisWasLostUndoesNoOther(t *testing.T) {
	onBoth(t, func(t *testing.T, b book) {
		var id string
		grant := func(send string) uint64 {
			t.Helper()
			id = b.optin("p", "token", "stock:A")
			results, err := b.Ledger.Grant(t.Context(), []*tokenv1.GrantItem{{PageId: page, PermissionId: id, SendId: send, Topic: "stock:A"}})
			if err != nil || results[0].GetGranted() == nil {
				t.Fatal(results, err)
			}
			return results[0].GetGranted().GetFence()
		}
		before := grant("before")
		if err := b.rdb.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		grant("after")
		if _, err := b.Apply(t.Context(), []ledger.Settlement{{PageID: page, PermissionID: id, SendID: "before", Fence: before, Effect: ledger.Release}}); err != nil {
			t.Fatal(err)
		}
		p, err := b.Permission(t.Context(), page, id)
		if err != nil || p.GetState() != tokenv1.PermissionState_PERMISSION_STATE_GRANTED || p.GetSendId() != "after" {
			t.Errorf("%v, %v: want it granted to the send after", p, err)
		}
	})
}
