package ledger

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onebell/onebell/proto/ids"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
)

var states = map[string]tokenv1.PermissionState{
	"w": tokenv1.PermissionState_PERMISSION_STATE_WAITING,
	"g": tokenv1.PermissionState_PERMISSION_STATE_GRANTED,
	"u": tokenv1.PermissionState_PERMISSION_STATE_UNKNOWN,
	"s": tokenv1.PermissionState_PERMISSION_STATE_SPENT,
	"e": tokenv1.PermissionState_PERMISSION_STATE_EXPIRED,
	"r": tokenv1.PermissionState_PERMISSION_STATE_REVOKED,
	"v": tokenv1.PermissionState_PERMISSION_STATE_VOID,
}

// Permission is one permission; nil when there is none.
func (l *Ledger) Permission(ctx context.Context, pageID, permissionID string) (*tokenv1.Permission, error) {
	s, ok := slotOfPermission(pageID, permissionID)
	if !ok {
		return nil, nil
	}
	record, err := l.rdb.HGetAll(ctx, s.permission(permissionID)).Result()
	if err != nil {
		return nil, fmt.Errorf("permission: %w", unavailable(err))
	}
	return permission(pageID, permissionID, record), nil
}

// permission reads a record; nil for a stub.
func permission(pageID, id string, record map[string]string) *tokenv1.Permission {
	if record["u"] == "" {
		return nil
	}
	p := &tokenv1.Permission{
		PermissionId: id, PageId: pageID, Psid: record["u"], Kind: tokenv1.Kind_KIND_OTN, Topic: record["o"],
		State: states[record["s"]], SendId: record["i"], MessageId: record["m"],
		OptedInAt: timestamp(number(record["a"])), ExpiresAt: timestamp(number(record["x"])),
	}
	if record["q"] != "" || record["b"] != "" {
		p.Wish = &tokenv1.Wish{Qty: number(record["q"])}
		if record["b"] != "" {
			p.Wish.Below = &tokenv1.Money{Amount: record["b"], Currency: record["c"]}
		}
	}
	if record["n"] != "" {
		p.NotBefore = timestamp(number(record["n"]))
	}
	return p
}

// Count counts permissions by state, for one topic or, when it is empty, for each, sorted.
func (l *Ledger) Count(ctx context.Context, pageID, topic string) ([]*tokenv1.TopicCount, error) {
	topics := []string{topic}
	if topic == "" {
		var err error
		if topics, err = l.topics(ctx, pageID); err != nil {
			return nil, fmt.Errorf("count: %w", err)
		}
	}
	return l.countTopics(ctx, pageID, topics)
}

// Topics counts permissions by state for topics of a page in order: at most n that begin with prefix and come after `after`.
// more tells whether there are others.
func (l *Ledger) Topics(ctx context.Context, pageID, prefix, after string, n int) (counts []*tokenv1.TopicCount, more bool, err error) {
	topics, err := l.topics(ctx, pageID)
	if err != nil {
		return nil, false, fmt.Errorf("topics: %w", err)
	}
	topics = slices.DeleteFunc(topics, func(t string) bool { return t <= after || !strings.HasPrefix(t, prefix) })
	more = len(topics) > n
	counts, err = l.countTopics(ctx, pageID, topics[:min(n, len(topics))])
	return counts, more, err
}

func (l *Ledger) countTopics(ctx context.Context, pageID string, topics []string) ([]*tokenv1.TopicCount, error) {
	counts := make([]*tokenv1.TopicCount, len(topics))
	pipe := l.rdb.Pipeline()
	cmds := make([][]*redis.MapStringStringCmd, len(topics))
	for i, topic := range topics {
		counts[i] = &tokenv1.TopicCount{PageId: pageID, Topic: topic}
		for n := range ids.Shards {
			cmds[i] = append(cmds[i], pipe.HGetAll(ctx, slotOf(pageID, ids.ShardName(n)).counts(topic)))
		}
	}
	if len(topics) == 0 {
		return nil, nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("count: %w", unavailable(err))
	}
	for i, shards := range cmds {
		for _, cmd := range shards {
			addCounts(counts[i], cmd.Val())
		}
	}
	return counts, nil
}

func addCounts(c *tokenv1.TopicCount, by map[string]string) {
	c.Waiting += number(by["w"])
	c.Granted += number(by["g"])
	c.Unknown += number(by["u"])
	c.Spent += number(by["s"])
	c.Expired += number(by["e"])
	c.Revoked += number(by["r"])
	c.Void += number(by["v"])
}

func (l *Ledger) topics(ctx context.Context, pageID string) ([]string, error) {
	pipe := l.rdb.Pipeline()
	cmds := make([]*redis.StringSliceCmd, ids.Shards)
	for n := range cmds {
		cmds[n] = pipe.SMembers(ctx, slotOf(pageID, ids.ShardName(n)).topics())
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, unavailable(err)
	}
	var all []string
	for _, c := range cmds {
		all = append(all, c.Val()...)
	}
	slices.SortFunc(all, strings.Compare)
	return slices.Compact(all), nil
}

func timestamp(ms int64) *timestamppb.Timestamp { return timestamppb.New(time.UnixMilli(ms)) }

// number reads what the scripts have written; 0 when there is nothing.
func number(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}
