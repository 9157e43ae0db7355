package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// sealedKey holds a known text, sealed: a Redis that was filled with keys we do not have is of no use.
const sealedKey = "{onebell}:sealed"

const sealedText = "onebell"

// Instance names the servers behind Redis: their run ids and the history they replicate. It changes when one of them was
// restarted, or when a replica took over: then the last writes may be gone. Empty where the server does not tell (the stand-in).
func (l *Ledger) Instance(ctx context.Context) (string, error) {
	var mu sync.Mutex
	var names []string
	read := func(ctx context.Context, c *redis.Client) error {
		info, err := c.Info(ctx, "server", "replication").Result()
		if _, refused := errors.AsType[redis.Error](err); refused { // the stand-in knows no such sections
			return nil
		}
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for line := range strings.Lines(info) {
			if strings.HasPrefix(line, "run_id:") || strings.HasPrefix(line, "master_replid:") {
				names = append(names, strings.TrimSpace(line))
			}
		}
		return nil
	}
	var err error
	switch rdb := l.rdb.(type) {
	case *redis.ClusterClient:
		err = rdb.ForEachMaster(ctx, read)
	case *redis.Client:
		err = read(ctx, rdb)
	}
	if err != nil {
		return "", fmt.Errorf("which Redis: %w", unavailable(err))
	}
	slices.Sort(names)
	return strings.Join(names, " "), nil
}

// SetSealed leaves a mark by which Sealed knows whether our keys open what is in this Redis.
func (l *Ledger) SetSealed(ctx context.Context) error {
	sealed, err := l.keys.Seal([]byte(sealedText), sealedKey)
	if err != nil {
		return err
	}
	return l.rdb.Set(ctx, sealedKey, sealed, 0).Err()
}

// Sealed tells whether our keys open what is in this Redis; true where no mark was left.
func (l *Ledger) Sealed(ctx context.Context) (bool, error) {
	mark, err := l.rdb.Get(ctx, sealedKey).Bytes()
	if errors.Is(err, redis.Nil) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("mark of the seal: %w", unavailable(err))
	}
	_, err = l.keys.Open(mark, sealedKey)
	return err == nil, nil //nolint:nilerr // that it cannot be opened is the answer
}
