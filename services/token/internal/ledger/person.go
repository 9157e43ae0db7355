package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/onebell/onebell/pkg/redislua"
	"github.com/onebell/onebell/proto/ids"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
)

// ApplyPerson applies a fact about a person. seq is its sequence in the stream PEOPLE: of two facts about one thing the later
// holds. It gives the number of permissions that changed.
func (l *Ledger) ApplyPerson(ctx context.Context, fact *tokenv1.PersonFact, seq uint64) (int64, error) {
	if err := l.notePage(ctx, fact.GetPageId()); err != nil {
		return 0, err
	}
	s := slotOf(fact.GetPageId(), ids.Shard(fact.GetPsid()))
	switch what := fact.GetWhat().(type) {
	case *tokenv1.PersonFact_Tagged:
		args := []any{seq, "tag", len(what.Tagged.GetAdd())}
		for _, tag := range slices.Concat(what.Tagged.GetAdd(), what.Tagged.GetRemove()) {
			args = append(args, tag)
		}
		_, err := l.run(ctx, []redislua.Call{{Script: personScript, Keys: []string{s.person(fact.GetPsid()), s.owned(fact.GetPsid())}, Args: args}})
		return 0, err
	case *tokenv1.PersonFact_Stopped:
		return l.stop(ctx, s, fact.GetPsid(), seq, "stop")
	case *tokenv1.PersonFact_Resumed:
		return l.stop(ctx, s, fact.GetPsid(), seq, "resume")
	}
	return 0, nil // a fact of a newer version: not ours to judge
}

// stop looks up the person's permissions and moves them; if there are new ones by then, it looks again.
func (l *Ledger) stop(ctx context.Context, s slot, psid string, seq uint64, how string) (int64, error) {
	for {
		owned, err := l.rdb.SMembers(ctx, s.owned(psid)).Result()
		if err != nil {
			return 0, fmt.Errorf("%s person: %w", how, unavailable(err))
		}
		pipe := l.rdb.Pipeline()
		topics := make([]*redis.StringCmd, len(owned))
		for i, id := range owned {
			topics[i] = pipe.HGet(ctx, s.permission(id), "o")
		}
		if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
			return 0, fmt.Errorf("%s person: %w", how, unavailable(err))
		}
		keys, args := []string{s.person(psid), s.owned(psid)}, []any{seq, how}
		for i, id := range owned {
			topic := topics[i].Val()
			keys = append(keys, s.permission(id), s.waiting(topic), s.counts(topic))
			args = append(args, id)
		}
		results, err := l.run(ctx, []redislua.Call{{Script: personScript, Keys: keys, Args: args}})
		if err != nil {
			return 0, fmt.Errorf("%s person: %w", how, err)
		}
		if changed := results[0].(int64); changed >= 0 {
			return changed, nil
		}
	}
}

// Touch notes that a person did something that opens the 24-hour window.
func (l *Ledger) Touch(ctx context.Context, pageID, psid string, at time.Time) error {
	if err := l.notePage(ctx, pageID); err != nil {
		return err
	}
	s := slotOf(pageID, ids.Shard(psid))
	_, err := l.run(ctx, []redislua.Call{{Script: touchScript, Keys: []string{s.person(psid)}, Args: []any{at.UnixMilli()}}})
	return err
}

// Person is what is known of somebody; nil when nothing is.
func (l *Ledger) Person(ctx context.Context, pageID, psid string) (*tokenv1.Person, error) {
	s := slotOf(pageID, ids.Shard(psid))
	pipe := l.rdb.Pipeline()
	record, owned := pipe.HGetAll(ctx, s.person(psid)), pipe.Exists(ctx, s.owned(psid))
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("person: %w", unavailable(err))
	}
	if len(record.Val()) == 0 && owned.Val() == 0 {
		return nil, nil
	}
	return person(pageID, psid, record.Val()), nil
}

func person(pageID, psid string, record map[string]string) *tokenv1.Person {
	p := &tokenv1.Person{PageId: pageID, Psid: psid, Locale: record["l"], Stopped: record["x"] == "1"}
	for field, seq := range record {
		if tag, ok := strings.CutPrefix(field, "t:"); ok && !strings.HasPrefix(seq, "-") {
			p.Tags = append(p.Tags, tag)
		}
	}
	slices.Sort(p.Tags)
	if ms, err := strconv.ParseInt(record["i"], 10, 64); err == nil {
		p.LastInteractionAt = timestamp(ms)
	}
	return p
}
