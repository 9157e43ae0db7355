package ids_test

import (
	"testing"

	"github.com/onebell/onebell/proto/ids"
)

// The expected values were computed with sha256sum and an independent fnv1a, from the formulas of the contract.
func TestIdsAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, got, want string }{
		{"shard", ids.Shard("7300000000000421"), "16"},
		{"permission", ids.Permission("104200000000017", "7300000000000421", "otn-fx-6f1c2a9d0b"), "164a74cd5c1c9cb61fef7c2fc21adb75"},
		{"alert", ids.Alert("wine-and-co", "stock:RAD-SHIRT-M", "wms-8812"), "43bf8438d6dc7b950006503c82fda484"},
		{"send", ids.Send("aa", "bb"), "9d660601ea200d105454c445393aa89f"},
	} {
		if c.got != c.want {
			t.Errorf("%s = %q, want %q", c.name, c.got, c.want)
		}
	}
}

func TestPermissionShard(t *testing.T) {
	t.Parallel()
	id := ids.Permission("1", "2", "3")
	if shard, ok := ids.PermissionShard(id); !ok || shard != ids.Shard("2") {
		t.Errorf("PermissionShard(%q) = %q, %v", id, shard, ok)
	}
	for _, bad := range []string{"", "xx", id[:31], id + "0", "ff" + id[2:], "ZZ" + id[2:]} {
		if shard, ok := ids.PermissionShard(bad); ok {
			t.Errorf("PermissionShard(%q) = %q, want refusal", bad, shard)
		}
	}
}
