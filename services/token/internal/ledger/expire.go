package ledger

import (
	"context"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/onebell/onebell/pkg/redislua"
	"github.com/onebell/onebell/proto/ids"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
)

var (
	//go:embed lua/expire.lua
	expireText string
	//go:embed lua/closeday.lua
	closeDayText string

	expireScript   = redislua.NewScript("expire", expireText)
	closeDayScript = redislua.NewScript("closeday", closeDayText)
)

// Day is a day on which permissions of a shard of a page lapse.
type Day struct {
	PageID string
	Shard  int
	Number int64 // since 1970
}

// Over tells whether all of the day has passed.
func (d Day) Over(now time.Time) bool { return dayOf(now) > d.Number }

func (d Day) slot() slot { return slotOf(d.PageID, ids.ShardName(d.Shard)) }

// Lapse is a permission that lapses.
type Lapse struct {
	PermissionID string
	At           time.Time
}

// Clock is the time of Redis, by which permissions lapse.
func (l *Ledger) Clock(ctx context.Context) (time.Time, error) {
	now, err := l.rdb.Time(ctx).Result()
	if err != nil {
		return time.Time{}, fmt.Errorf("clock: %w", unavailable(err))
	}
	return now, nil
}

// Days are the days from one time to another on which something lapses on a page.
func (l *Ledger) Days(ctx context.Context, pageID string, from, to time.Time) ([]Day, error) {
	pipe := l.rdb.Pipeline()
	cmds := make([]*redis.ZSliceCmd, ids.Shards)
	for n := range cmds {
		cmds[n] = pipe.ZRangeByScoreWithScores(ctx, Day{PageID: pageID, Shard: n}.slot().days(),
			&redis.ZRangeBy{Min: fmt.Sprint(dayOf(from)), Max: fmt.Sprint(dayOf(to))})
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("days: %w", unavailable(err))
	}
	var days []Day
	for n, cmd := range cmds {
		for _, z := range cmd.Val() {
			days = append(days, Day{pageID, n, int64(z.Score)})
		}
	}
	return days, nil
}

// LapseChunk is how many entries of a day are read at once: 19 KB.
const LapseChunk = 1000

// Lapses reads at most LapseChunk entries of a day, from a place in its list, and gives the place after them. The list ends
// where the place stays. What was used since it was listed is among them.
func (l *Ledger) Lapses(ctx context.Context, d Day, from int64) (some []Lapse, next int64, err error) {
	list, err := l.rdb.GetRange(ctx, d.slot().lapsing(d.Number), from, from+LapseChunk*entryBytes-1).Result()
	if err != nil {
		return nil, from, fmt.Errorf("day: %w", unavailable(err))
	}
	return lapses(d, list), from + int64(len(list)/entryBytes*entryBytes), nil
}

// Expire moves those of the permissions that have lapsed. It gives how many it moved, and how many must wait: they lapse later,
// or a send holds them.
func (l *Ledger) Expire(ctx context.Context, pageID string, permissionIDs []string) (moved, later int, err error) {
	records, err := l.fields(ctx, pageID, permissionIDs, "o")
	if err != nil {
		return 0, 0, fmt.Errorf("expire: %w", err)
	}
	var calls []redislua.Call
	for i, id := range permissionIDs {
		topic, known := records[i][0].(string)
		if !known {
			continue
		}
		s, _ := slotOfPermission(pageID, id)
		calls = append(calls, redislua.Call{Script: expireScript, Keys: []string{s.permission(id), s.waiting(topic), s.counts(topic)}, Args: []any{id}})
	}
	results, err := l.run(ctx, calls)
	if err != nil {
		return 0, 0, fmt.Errorf("expire: %w", err)
	}
	for _, r := range results {
		switch r {
		case int64(1):
			moved++
		case int64(2):
			later++
		}
	}
	return moved, later, nil
}

// CloseDay removes the list of a day that is over, unless it grew beyond the length up to which it was worked.
func (l *Ledger) CloseDay(ctx context.Context, d Day, length int64) error {
	s := d.slot()
	_, err := l.run(ctx, []redislua.Call{{Script: closeDayScript, Keys: []string{s.lapsing(d.Number), s.days()}, Args: []any{d.Number, length}}})
	return err
}

// Expiring counts the waiting permissions of a page that lapse within a period from now on, sorted by topic.
func (l *Ledger) Expiring(ctx context.Context, pageID string, within time.Duration) ([]*tokenv1.ExpiringCount, error) {
	now, err := l.Clock(ctx)
	if err != nil {
		return nil, err
	}
	until := now.Add(within)
	days, err := l.Days(ctx, pageID, now, until)
	if err != nil {
		return nil, err
	}
	counts := map[string]*tokenv1.ExpiringCount{}
	for _, d := range days {
		for place := int64(0); ; {
			some, next, err := l.Lapses(ctx, d, place)
			if err != nil {
				return nil, err
			}
			if next == place {
				break
			}
			place = next
			some = slices.DeleteFunc(some, func(e Lapse) bool { return !e.At.After(now) || e.At.After(until) })
			if err := l.countLapses(ctx, pageID, some, counts); err != nil {
				return nil, err
			}
		}
	}
	all := make([]*tokenv1.ExpiringCount, 0, len(counts))
	for _, c := range counts {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *tokenv1.ExpiringCount) int { return strings.Compare(a.GetTopic(), b.GetTopic()) })
	return all, nil
}

// countLapses adds those that wait.
func (l *Ledger) countLapses(ctx context.Context, pageID string, some []Lapse, counts map[string]*tokenv1.ExpiringCount) error {
	names := make([]string, len(some))
	for i, e := range some {
		names[i] = e.PermissionID
	}
	records, err := l.fields(ctx, pageID, names, "s", "o")
	if err != nil {
		return fmt.Errorf("expiring: %w", err)
	}
	for i, r := range records {
		topic, known := r[1].(string)
		if !known || r[0] != "w" {
			continue
		}
		c := counts[topic]
		if c == nil {
			c = &tokenv1.ExpiringCount{PageId: pageID, Topic: topic}
			counts[topic] = c
		}
		c.Permissions++
		if at := timestamp(some[i].At.UnixMilli()); c.FirstAt == nil || at.AsTime().Before(c.FirstAt.AsTime()) {
			c.FirstAt = at
		}
	}
	return nil
}

// fields reads fields of permissions: for each, in its place, their values, nil where there is none.
func (l *Ledger) fields(ctx context.Context, pageID string, permissionIDs []string, names ...string) ([][]any, error) {
	if len(permissionIDs) == 0 {
		return nil, nil
	}
	pipe := l.rdb.Pipeline()
	cmds := make([]*redis.SliceCmd, len(permissionIDs))
	for i, id := range permissionIDs {
		s, _ := slotOfPermission(pageID, id)
		cmds[i] = pipe.HMGet(ctx, s.permission(id), names...)
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return nil, unavailable(err)
	}
	all := make([][]any, len(cmds))
	for i, c := range cmds {
		all[i] = c.Val()
	}
	return all, nil
}
