package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/onebell/onebell/proto/ids"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
)

// States that somebody asks Held for.
const (
	Granted = tokenv1.PermissionState_PERMISSION_STATE_GRANTED
	Spent   = tokenv1.PermissionState_PERMISSION_STATE_SPENT
)

// Holding is a permission and the send that holds it, used it, or had it last.
type Holding struct {
	PermissionID, Topic string
	State               tokenv1.PermissionState
	Fence               uint64
	Left                time.Duration // of the lease, when granted
}

// Held finds the permission of a person whose last send is this one; nil when there is none.
func (l *Ledger) Held(ctx context.Context, pageID, psid, sendID string) (*Holding, error) {
	s := slotOf(pageID, ids.Shard(psid))
	owned, err := l.rdb.SMembers(ctx, s.owned(psid)).Result()
	if err != nil {
		return nil, fmt.Errorf("permission of a send: %w", unavailable(err))
	}
	if len(owned) == 0 {
		return nil, nil
	}
	pipe := l.rdb.Pipeline()
	// In one round trip, before the records: time left can only come out too long.
	clock := pipe.Time(ctx)
	cmds := make([]*redis.SliceCmd, len(owned))
	for i, id := range owned {
		cmds[i] = pipe.HMGet(ctx, s.permission(id), "i", "s", "f", "o", "l")
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("permission of a send: %w", unavailable(err))
	}
	for i, cmd := range cmds {
		var field [5]string
		for j, v := range cmd.Val() {
			field[j], _ = v.(string)
		}
		if field[0] != sendID {
			continue
		}
		h := &Holding{PermissionID: owned[i], State: states[field[1]], Fence: uint64(max(0, number(field[2]))), Topic: field[3]}
		if h.State == Granted {
			h.Left = time.UnixMilli(number(field[4])).Sub(clock.Val())
		}
		return h, nil
	}
	return nil, nil
}
