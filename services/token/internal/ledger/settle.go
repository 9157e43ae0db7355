package ledger

import (
	"context"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/onebell/onebell/pkg/redislua"
)

var (
	//go:embed lua/permission.lua
	permissionText string
	//go:embed lua/settle_spend.lua
	spendText string
	//go:embed lua/settle_void.lua
	voidText string
	//go:embed lua/settle_expire.lua
	lapsedText string
	//go:embed lua/settle_cloud.lua
	cloudText string
	//go:embed lua/settle_try.lua
	tryText string
	//go:embed lua/settle_release.lua
	releaseText string
	//go:embed lua/check.lua
	checkText string

	// One script a move.
	settleScripts = map[Effect]*redislua.Script{
		Spend:   redislua.NewScript("settle_spend", permissionText+spendText),
		Void:    redislua.NewScript("settle_void", permissionText+voidText),
		Expire:  redislua.NewScript("settle_expire", permissionText+lapsedText),
		Cloud:   redislua.NewScript("settle_cloud", permissionText+cloudText),
		Try:     redislua.NewScript("settle_try", permissionText+tryText),
		Release: redislua.NewScript("settle_release", permissionText+releaseText),
	}
	checkScript = redislua.NewScript("check", permissionText+checkText)
)

// Settlement is what became of one send.
type Settlement struct {
	PageID, PermissionID, SendID string
	Fence                        uint64
	Effect                       Effect
	MessageID                    string
	NotBefore                    time.Time // zero: not parked
}

// Effect is what a settlement does to the permission.
type Effect string

// The effects: one script each.
const (
	Spend   Effect = "spend"
	Void    Effect = "void"
	Expire  Effect = "expire"
	Cloud   Effect = "cloud"
	Try     Effect = "try" // about to be called: unclear until its outcome is known
	Release Effect = "release"
)

// Answer is what became of a settlement.
type Answer string

// The answers, as the scripts name them.
const (
	Settled Answer = "settled"
	Already Answer = "already"
	Stale   Answer = "stale"
	Missing Answer = "missing"
)

// again is what a script answers when the opt-in was recorded after its topic was looked up.
const again Answer = "again"

// Check says what settling by the holder of the grant would do, and changes nothing.
func (l *Ledger) Check(ctx context.Context, all []Settlement) ([]Answer, error) {
	return l.settle(ctx, all, func(Settlement) *redislua.Script { return checkScript })
}

// Apply applies facts. They make the same permission in whatever order they come (package permission says what is meant by
// that), so that those of one call may be given in any order, too.
func (l *Ledger) Apply(ctx context.Context, all []Settlement) ([]Answer, error) {
	for _, s := range all {
		if settleScripts[s.Effect] == nil {
			return nil, fmt.Errorf("settle: unknown effect %q", s.Effect)
		}
	}
	return l.settle(ctx, all, func(s Settlement) *redislua.Script { return settleScripts[s.Effect] })
}

func (l *Ledger) settle(ctx context.Context, all []Settlement, script func(Settlement) *redislua.Script) ([]Answer, error) {
	answers := make([]Answer, len(all))
	var at []int
	for i, s := range all {
		answers[i] = Missing
		if _, ok := slotOfPermission(s.PageID, s.PermissionID); ok {
			at = append(at, i)
		}
	}
	for len(at) > 0 {
		topics, err := l.topicsOf(ctx, all, at)
		if err != nil {
			return nil, fmt.Errorf("settle: %w", err)
		}
		calls := make([]redislua.Call, len(at))
		for j, i := range at {
			calls[j] = all[i].call(script(all[i]), topics[j])
		}
		results, err := l.run(ctx, calls)
		if err != nil {
			return nil, fmt.Errorf("settle: %w", err)
		}
		var left []int
		for j, r := range results {
			word, _ := r.(string)
			answers[at[j]] = Answer(word)
			if Answer(word) == again {
				left = append(left, at[j])
			}
		}
		at = left
	}
	return answers, nil
}

// call is the run of a script for a settlement of a permission with this topic.
func (s Settlement) call(script *redislua.Script, topic string) redislua.Call {
	slot, _ := slotOfPermission(s.PageID, s.PermissionID)
	parked := ""
	if !s.NotBefore.IsZero() {
		parked = strconv.FormatInt(s.NotBefore.UnixMilli(), 10)
	}
	return redislua.Call{
		Script: script,
		Keys:   []string{slot.permission(s.PermissionID), slot.waiting(topic), slot.counts(topic)},
		Args:   []any{s.PermissionID, topic, s.SendID, s.Fence, s.MessageID, parked, string(s.Effect)},
	}
}

// topicsOf looks up the topics of permissions: they never change.
func (l *Ledger) topicsOf(ctx context.Context, all []Settlement, at []int) ([]string, error) {
	pipe := l.rdb.Pipeline()
	cmds := make([]*redis.StringCmd, len(at))
	for j, i := range at {
		slot, _ := slotOfPermission(all[i].PageID, all[i].PermissionID)
		cmds[j] = pipe.HGet(ctx, slot.permission(all[i].PermissionID), "o")
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return nil, unavailable(err)
	}
	topics := make([]string, len(at))
	for j, c := range cmds {
		topics[j] = c.Val()
	}
	return topics, nil
}
