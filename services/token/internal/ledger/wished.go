package ledger

import (
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/onebell/onebell/pkg/redislua"
	"github.com/onebell/onebell/proto/ids"
)

var (
	//go:embed lua/wished.lua
	wishedText   string
	wishedScript = redislua.NewScript("wished", wishedText)
)

// NoteWish notes, after such a fact was applied, when a person said whether to get messages.
func (l *Ledger) NoteWish(ctx context.Context, pageID, psid string, at time.Time) error {
	s := slotOf(pageID, ids.Shard(psid))
	_, err := l.run(ctx, []redislua.Call{{Script: wishedScript, Keys: []string{s.person(psid)}, Args: []any{at.UnixMilli()}}})
	return err
}

// WishedAt is when a person last said whether to get messages; the zero time when never.
func (l *Ledger) WishedAt(ctx context.Context, pageID, psid string) (time.Time, error) {
	text, err := l.rdb.HGet(ctx, slotOf(pageID, ids.Shard(psid)).person(psid), "xt").Result()
	if errors.Is(err, redis.Nil) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("last wish: %w", unavailable(err))
	}
	return time.UnixMilli(number(text)), nil
}
