// Package ledger keeps permissions and people in Redis: every move is one Lua script that happens whole or not at all and
// answers "already" when asked twice. It is an index made from facts: losing it costs time, never a promise. It reads no
// stream and decides nothing about people.
//
// All keys of one person share the slot {page:shard}:
//
//	{page:shard}:p:<permission id>  hash  u psid, k sealed token, o topic, q qty, b c below, a opted in, x lapses, s state,
//	                                      f highest fence, i send that holds or used it, j send of the highest fence if
//	                                      another, l end of lease, n parked until, m message id, h person stopped,
//	                                      y unclear tries, d fences released, t ended by an outcome
//	{page:shard}:w:<topic>          zset  waiting permissions by opt-in time
//	{page:shard}:c:<topic>          hash  permissions by state
//	{page:shard}:t                  set   topics
//	{page:shard}:o:<psid>           set   permissions of a person
//	{page:shard}:u:<psid>           hash  x stopped (xs its sequence, xn permissions changed), i last interaction, l locale, t:<tag> sequence (negative: removed)
//	{page:shard}:x:<day>            str   permissions that lapse on a day (see entry)
//	{page:shard}:x                  zset  days that have such a list
//	{page:shard}:f                  hash  marks of forgotten people (see marks)
//	{page:--}:z                     hash  what pauses the page (see pausedKey)
//
// States: w waiting, g granted, u unknown, s spent, e expired, r revoked, v void. Times are milliseconds since 1970.
package ledger

import (
	"context"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/onebell/onebell/pkg/fault"
	"github.com/onebell/onebell/pkg/redislua"
	"github.com/onebell/onebell/proto/ids"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/token/internal/seal"
)

var (
	//go:embed lua/record.lua
	recordText string
	//go:embed lua/grant.lua
	grantText string
	//go:embed lua/person.lua
	personText string
	//go:embed lua/touch.lua
	touchText string

	recordScript = redislua.NewScript("record", recordText)
	grantScript  = redislua.NewScript("grant", grantText)
	personScript = redislua.NewScript("person", personText)
	touchScript  = redislua.NewScript("touch", touchText)
)

// Ledger is the index in Redis. Safe for use from many goroutines.
type Ledger struct {
	rdb   redis.UniversalClient
	keys  *seal.Keys
	pages sync.Map // page id -> struct{}: noted since the scripts were loaded

	pauses pauses
}

// New makes a ledger on a client. Tokens are sealed with keys before they reach Redis.
func New(rdb redis.UniversalClient, keys *seal.Keys) *Ledger { return &Ledger{rdb: rdb, keys: keys} }

// slot is where all that belongs to a page's shard lives.
type slot string

// escapeTag keeps a page id from ending the hash tag early.
var escapeTag = strings.NewReplacer("{", "%7B", "}", "%7D", "%", "%25")

func slotOf(pageID, shard string) slot {
	return slot("{" + escapeTag.Replace(pageID) + ":" + shard + "}")
}

func (s slot) permission(id string) string { return string(s) + ":p:" + id }
func (s slot) waiting(topic string) string { return string(s) + ":w:" + topic }
func (s slot) counts(topic string) string  { return string(s) + ":c:" + topic }
func (s slot) topics() string              { return string(s) + ":t" }
func (s slot) owned(psid string) string    { return string(s) + ":o:" + psid }
func (s slot) person(psid string) string   { return string(s) + ":u:" + psid }

// slotOfPermission is the slot that an id names; false when it is no permission id.
func slotOfPermission(pageID, permissionID string) (slot, bool) {
	shard, ok := ids.PermissionShard(permissionID)
	return slotOf(pageID, shard), ok
}

// Optin is a permission to be recorded. Every field is valid.
type Optin struct {
	PageID, PSID, Token, Topic string
	Wish                       *tokenv1.Wish
	OptedInAt, ExpiresAt       time.Time
	Seq                        uint64 // in the stream OPTINS
}

// ID is its permission id.
func (o Optin) ID() string { return ids.Permission(o.PageID, o.PSID, o.Token) }

// Record stores permissions; for each, in its place, whether it is new.
func (l *Ledger) Record(ctx context.Context, optins []Optin) (recorded []bool, err error) {
	calls := make([]redislua.Call, len(optins))
	for i, o := range optins {
		id, s := o.ID(), slotOf(o.PageID, ids.Shard(o.PSID))
		sealed, err := l.keys.Seal([]byte(o.Token), o.PageID+"\n"+id)
		if err != nil {
			return nil, err
		}
		qty, below := "", o.Wish.GetBelow()
		if o.Wish.GetQty() > 0 {
			qty = strconv.FormatInt(o.Wish.GetQty(), 10)
		}
		calls[i] = redislua.Call{
			Script: recordScript,
			Keys: []string{
				s.permission(id), s.waiting(o.Topic), s.counts(o.Topic), s.topics(), s.owned(o.PSID), s.person(o.PSID),
				s.lapsing(dayOf(o.ExpiresAt)), s.days(), s.forgotten(),
			},
			Args: []any{
				id, o.PSID, sealed, o.Topic, qty, below.GetAmount(), below.GetCurrency(), o.OptedInAt.UnixMilli(), o.ExpiresAt.UnixMilli(),
				o.Seq, dayOf(o.ExpiresAt), entry(id, o.ExpiresAt),
			},
		}
		for _, field := range l.marks(o.PageID, o.PSID, topology.Optins) {
			calls[i].Args = append(calls[i].Args, field)
		}
	}
	if err := l.notePages(ctx, optins); err != nil {
		return nil, err
	}
	results, err := l.run(ctx, calls)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	recorded = make([]bool, len(results))
	for i, r := range results {
		recorded[i] = r == int64(1)
	}
	return recorded, nil
}

// Known tells, by permission id, which of these are recorded.
func (l *Ledger) Known(ctx context.Context, optins []Optin) (map[string]bool, error) {
	pipe := l.rdb.Pipeline()
	known := make(map[string]*redis.BoolCmd, len(optins))
	for _, o := range optins {
		known[o.ID()] = pipe.HExists(ctx, slotOf(o.PageID, ids.Shard(o.PSID)).permission(o.ID()), "u")
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("look up permissions: %w", unavailable(err))
	}
	out := make(map[string]bool, len(known))
	for id, cmd := range known {
		out[id] = cmd.Val()
	}
	return out, nil
}

// DefaultLease is how long a granted send may take when it does not say.
const DefaultLease = time.Minute

// Grant asks for permissions, in order, many in one round trip. An id that is none is answered UNKNOWN_PERMISSION.
func (l *Ledger) Grant(ctx context.Context, items []*tokenv1.GrantItem) ([]*tokenv1.GrantResult, error) {
	results := make([]*tokenv1.GrantResult, len(items))
	var calls []redislua.Call
	var at []int
	paused, err := l.Paused(ctx, items)
	if err != nil {
		return nil, fmt.Errorf("grant: %w", err)
	}
	for i, item := range items {
		results[i] = denied(item, tokenv1.DenialReason_DENIAL_REASON_UNKNOWN_PERMISSION)
		s, ok := slotOfPermission(item.GetPageId(), item.GetPermissionId())
		if !ok {
			continue
		}
		lease := DefaultLease
		if item.GetLease() != nil {
			lease = item.GetLease().AsDuration()
		}
		calls = append(calls, redislua.Call{
			Script: grantScript,
			Keys:   []string{s.permission(item.GetPermissionId()), s.waiting(item.GetTopic()), s.counts(item.GetTopic())},
			Args:   []any{item.GetPermissionId(), item.GetSendId(), item.GetTopic(), lease.Milliseconds(), pausedArg[paused[item.GetPageId()]]},
		})
		at = append(at, i)
	}
	answers, err := l.run(ctx, calls)
	if err != nil {
		return nil, fmt.Errorf("grant: %w", err)
	}
	for j, answer := range answers {
		if results[at[j]], err = l.granted(items[at[j]], answer); err != nil {
			return nil, fmt.Errorf("grant: %w", err)
		}
	}
	return results, nil
}

func denied(item *tokenv1.GrantItem, why tokenv1.DenialReason) *tokenv1.GrantResult {
	return &tokenv1.GrantResult{
		PermissionId: item.GetPermissionId(), SendId: item.GetSendId(),
		Result: &tokenv1.GrantResult_Denied{Denied: &tokenv1.Denied{Reason: why}},
	}
}

// granted reads the answer of grant.lua.
func (l *Ledger) granted(item *tokenv1.GrantItem, answer any) (*tokenv1.GrantResult, error) {
	a, ok := answer.([]any)
	if !ok || len(a) < 2 {
		return nil, fmt.Errorf("script answered %T", answer)
	}
	if a[0] == int64(0) {
		return denied(item, tokenv1.DenialReason(a[1].(int64))), nil //nolint:gosec // small numbers of our own script
	}
	token, err := l.keys.Open([]byte(a[2].(string)), item.GetPageId()+"\n"+item.GetPermissionId())
	if err != nil {
		return nil, fmt.Errorf("permission %s: %w", item.GetPermissionId(), err)
	}
	return &tokenv1.GrantResult{
		PermissionId: item.GetPermissionId(), SendId: item.GetSendId(),
		Result: &tokenv1.GrantResult_Granted{Granted: &tokenv1.Granted{
			Fence: uint64(a[1].(int64)), RecipientToken: string(token), Psid: a[3].(string), //nolint:gosec // fences begin at 1
			ExpiresAt: timestamp(a[4].(int64)), Again: a[5] == "1", AfterUnknown: a[6] == "1",
		}},
	}, nil
}

// run runs scripts in one round trip for each server. A Redis that is away is a fault of kind Unavailable.
func (l *Ledger) run(ctx context.Context, calls []redislua.Call) ([]any, error) {
	if len(calls) == 0 {
		return nil, nil
	}
	out := make([]any, len(calls))
	for i, cmd := range redislua.Pipeline(ctx, l.rdb, calls) {
		value, err := cmd.Result()
		if err != nil {
			return nil, fmt.Errorf("script %s: %w", calls[i].Script.Name, unavailable(err))
		}
		out[i] = value
	}
	return out, nil
}

// unavailable says of an error of Redis that trying again will help.
func unavailable(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fault.Later(time.Second, "redis", err)
}
