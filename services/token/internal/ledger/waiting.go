package ledger

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/onebell/onebell/pkg/fault"
	"github.com/onebell/onebell/proto/ids"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
)

// Waiting is one permission of a list, with its person.
type Waiting struct {
	Permission *tokenv1.Permission
	Person     *tokenv1.Person
}

// place is where a permission stands in the order of a topic: by opt-in time, then by id.
type place struct {
	ms float64
	id string
}

func (p place) before(q place, newest bool) bool {
	if newest {
		p, q = q, p
	}
	return p.ms < q.ms || p.ms == q.ms && p.id < q.id
}

// List gives up to n waiting permissions of a topic after the cursor (empty: from the beginning), in global order over all
// shards, and the cursor after them (empty: there are no more). Parked ones are left out.
func (l *Ledger) List(ctx context.Context, pageID, topic string, newest bool, cursor string, n int) ([]Waiting, string, error) {
	after, err := parseCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	m := merge{l: l, topic: topic, newest: newest, pageID: pageID, chunk: int64(max(16, n/16))}
	places, err := m.take(ctx, after, n)
	if err != nil {
		return nil, "", fmt.Errorf("list waiting: %w", err)
	}
	next := ""
	if len(places) == n && n > 0 {
		next = formatCursor(places[n-1])
	}
	found, err := l.load(ctx, pageID, places)
	return found, next, err
}

// load reads the permissions and their people. One that is no longer waiting, or parked, is left out.
func (l *Ledger) load(ctx context.Context, pageID string, places []place) ([]Waiting, error) {
	if len(places) == 0 {
		return nil, nil
	}
	pipe := l.rdb.Pipeline()
	clock := pipe.Time(ctx)
	records := make([]*redis.MapStringStringCmd, len(places))
	for i, p := range places {
		s, _ := slotOfPermission(pageID, p.id)
		records[i] = pipe.HGetAll(ctx, s.permission(p.id))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("list waiting: %w", unavailable(err))
	}
	var found []Waiting
	people := l.rdb.Pipeline()
	var persons []*redis.MapStringStringCmd
	for i, r := range records {
		p := permission(pageID, places[i].id, r.Val())
		if p == nil || p.GetState() != tokenv1.PermissionState_PERMISSION_STATE_WAITING {
			continue
		}
		if p.GetNotBefore() != nil && p.GetNotBefore().AsTime().After(clock.Val()) {
			continue
		}
		found = append(found, Waiting{Permission: p})
		persons = append(persons, people.HGetAll(ctx, slotOf(pageID, ids.Shard(p.GetPsid())).person(p.GetPsid())))
	}
	if len(found) == 0 {
		return nil, nil
	}
	if _, err := people.Exec(ctx); err != nil {
		return nil, fmt.Errorf("list waiting: %w", unavailable(err))
	}
	for i := range found {
		found[i].Person = person(pageID, found[i].Permission.GetPsid(), persons[i].Val())
	}
	return found, nil
}

// merge reads the shards' lists of a topic, each in chunks, and takes from them in order.
type merge struct {
	l      *Ledger
	pageID string
	topic  string
	newest bool
	chunk  int64
}

// feed is one shard's list.
type feed struct {
	places []place // read and not yet taken
	last   place   // last one read
	more   bool    // whether there may be others
	chunk  int64
}

func (m merge) take(ctx context.Context, after *place, n int) ([]place, error) {
	feeds := make([]feed, ids.Shards)
	all := make([]int, ids.Shards)
	for i := range feeds {
		feeds[i] = feed{more: true, chunk: m.chunk}
		all[i] = i
	}
	if err := m.fill(ctx, feeds, all, after); err != nil {
		return nil, err
	}
	var taken []place
	for len(taken) < n {
		best := -1
		for i := range feeds {
			if len(feeds[i].places) == 0 && feeds[i].more {
				last := feeds[i].last
				if err := m.fill(ctx, feeds, []int{i}, &last); err != nil {
					return nil, err
				}
			}
			if len(feeds[i].places) > 0 && (best < 0 || feeds[i].places[0].before(feeds[best].places[0], m.newest)) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		taken = append(taken, feeds[best].places[0])
		feeds[best].places = feeds[best].places[1:]
	}
	return taken, nil
}

// fill reads the next chunk of some feeds. Many with the same time may fill a chunk and bring nothing new: then a larger
// one is read.
func (m merge) fill(ctx context.Context, feeds []feed, which []int, after *place) error {
	for len(which) > 0 {
		pipe := m.l.rdb.Pipeline()
		cmds := make([]*redis.ZSliceCmd, len(which))
		for j, i := range which {
			from, to := "-inf", "+inf"
			if m.newest {
				from, to = to, from
			}
			if after != nil {
				from = strconv.FormatFloat(after.ms, 'f', -1, 64)
			}
			cmds[j] = pipe.ZRangeArgsWithScores(ctx, redis.ZRangeArgs{
				Key: slotOf(m.pageID, ids.ShardName(i)).waiting(m.topic), Start: from, Stop: to, ByScore: true, Rev: m.newest, Count: feeds[i].chunk,
			})
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return unavailable(err)
		}
		var again []int
		for j, i := range which {
			f := &feeds[i]
			f.more = int64(len(cmds[j].Val())) == f.chunk
			for _, z := range cmds[j].Val() {
				p := place{z.Score, z.Member.(string)}
				if after == nil || after.before(p, m.newest) {
					f.places = append(f.places, p)
					f.last = p
				}
			}
			if f.more && len(f.places) == 0 {
				f.chunk *= 2
				again = append(again, i)
			}
		}
		which = again
	}
	return nil
}

func formatCursor(p place) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatFloat(p.ms, 'f', -1, 64) + " " + p.id))
}

func parseCursor(s string) (*place, error) {
	if s == "" {
		return nil, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		ms, id, ok := strings.Cut(string(raw), " ")
		if at, ferr := strconv.ParseFloat(ms, 64); ok && ferr == nil {
			return &place{at, id}, nil
		}
	}
	return nil, fault.New(fault.Invalid, "bad_cursor", errors.New("cursor: expected one that ListWaiting gave"))
}
