package ledger

import (
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/onebell/onebell/pkg/redislua"
)

// Keys about the index as a whole, in a slot of their own.
const (
	epochKey = "{onebell}:epoch"   // which streams the index was made from, and in which rebuild; missing: not complete
	lockKey  = "{onebell}:rebuild" // who rebuilds
	seenKey  = "{onebell}:seen"    // hash, stream -> sequence up to which everything is applied
	pagesKey = "{onebell}:pages"   // set, every page with a person
)

var (
	//go:embed lua/epoch.lua
	epochText   string
	epochScript = redislua.NewScript("epoch", epochText)
)

// LoadScripts loads every script, so that pipelines find them.
func (l *Ledger) LoadScripts(ctx context.Context) error {
	l.pages.Clear() // this Redis may be another
	l.pauses.clear()
	scripts := []*redislua.Script{
		recordScript, grantScript, checkScript, personScript, touchScript, wishedScript, pauseScript, epochScript, expireScript, closeDayScript,
		forgetScript,
	}
	return redislua.Load(ctx, l.rdb, slices.AppendSeq(scripts, maps.Values(settleScripts))...)
}

// Epoch is the mark of the index; empty when it is not complete.
func (l *Ledger) Epoch(ctx context.Context) (string, error) {
	epoch, err := l.rdb.Get(ctx, epochKey).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", fmt.Errorf("epoch: %w", unavailable(err))
	}
	return epoch, nil
}

// lockTime is how long a rebuild stays locked when whoever holds it is gone.
const lockTime = 15 * time.Second

// Lock takes the right to rebuild, or keeps it; false when somebody else has it.
func (l *Ledger) Lock(ctx context.Context, holder string) (bool, error) {
	ok, err := l.rdb.SetNX(ctx, lockKey, holder, lockTime).Result()
	if err != nil || ok {
		return ok, err
	}
	now, err := l.rdb.Get(ctx, lockKey).Result()
	if err != nil || now != holder {
		return false, ignoreNil(err)
	}
	return l.rdb.PExpire(ctx, lockKey, lockTime).Result()
}

// Complete marks the index as complete; false when the lock was lost meanwhile.
func (l *Ledger) Complete(ctx context.Context, holder, epoch string) (bool, error) {
	results, err := l.run(ctx, []redislua.Call{{Script: epochScript, Keys: []string{epochKey, lockKey}, Args: []any{holder, epoch}}})
	if err != nil {
		return false, err
	}
	return results[0] == int64(1), nil
}

// SetSeen notes up to which sequence of each stream everything is applied.
func (l *Ledger) SetSeen(ctx context.Context, seen map[string]uint64) error {
	values := make([]any, 0, 2*len(seen))
	for stream, seq := range seen {
		values = append(values, stream, seq)
	}
	return l.rdb.HSet(ctx, seenKey, values...).Err()
}

// Seen reads what SetSeen has noted; nothing when the index is new.
func (l *Ledger) Seen(ctx context.Context) (map[string]uint64, error) {
	all, err := l.rdb.HGetAll(ctx, seenKey).Result()
	if err != nil {
		return nil, fmt.Errorf("seen: %w", unavailable(err))
	}
	seen := map[string]uint64{}
	for stream, text := range all {
		if seen[stream], err = strconv.ParseUint(text, 10, 64); err != nil {
			return nil, fmt.Errorf("seen: %w", err)
		}
	}
	return seen, nil
}

// Clear removes an index that was made from other streams.
func (l *Ledger) Clear(ctx context.Context) error {
	for _, pattern := range []string{"{*:??}:*", epochKey, seenKey, pagesKey, sealedKey} {
		err := l.eachKey(ctx, pattern, func(ctx context.Context, c redis.Cmdable, key string) error { return c.Unlink(ctx, key).Err() })
		if err != nil {
			return err
		}
	}
	return nil
}

// eachKey gives every key of a pattern, with the server that holds it, one at a time for each server.
func (l *Ledger) eachKey(ctx context.Context, pattern string, take func(ctx context.Context, c redis.Cmdable, key string) error) error {
	each := func(ctx context.Context, c redis.Cmdable) error {
		keys := c.Scan(ctx, 0, pattern, 1000).Iterator()
		for keys.Next(ctx) {
			if err := take(ctx, c, keys.Val()); err != nil {
				return err
			}
		}
		return keys.Err()
	}
	if cluster, ok := l.rdb.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return each(ctx, c) })
	}
	return each(ctx, l.rdb)
}

func ignoreNil(err error) error {
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}
