package ledger

import (
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/onebell/onebell/pkg/redislua"
	"github.com/onebell/onebell/proto/ids"
	"github.com/onebell/onebell/proto/topology"
)

var (
	//go:embed lua/forget.lua
	forgetText   string
	forgetScript = redislua.NewScript("forget", forgetText)
)

// Mark is what is left of a person who was forgotten: for each stream the sequence up to which facts of theirs no longer
// count. It holds no id, only a keyed hash (package seal), so that facts that are read once more, or were missed by the
// erasure, change nothing. In Redis it is a field for each stream, `<name> <stream>`.
type Mark struct {
	PageID, Shard, Name string
	Upto                map[string]uint64 // by stream
}

func (s slot) forgotten() string { return string(s) + ":f" }

func markField(name, stream string) string { return name + " " + stream }

// marks are the fields under which facts of a stream about a person may be marked.
func (l *Ledger) marks(pageID, psid, stream string) []string {
	fields := l.Names(pageID, psid)
	for i, name := range fields {
		fields[i] = markField(name, stream)
	}
	return fields
}

// Names are what a forgotten person is called: the first is for new marks.
func (l *Ledger) Names(pageID, psid string) []string { return l.keys.Names(pageID + "\n" + psid) }

// Forget sets a mark and erases the person. It gives the number of permissions erased.
func (l *Ledger) Forget(ctx context.Context, m Mark, psid string) (int64, error) {
	s := slotOf(m.PageID, m.Shard)
	for {
		owned, err := l.rdb.SMembers(ctx, s.owned(psid)).Result()
		if err != nil {
			return 0, fmt.Errorf("forget: %w", unavailable(err))
		}
		records, err := l.fields(ctx, m.PageID, owned, "o", "x")
		if err != nil {
			return 0, fmt.Errorf("forget: %w", err)
		}
		keys := []string{s.person(psid), s.owned(psid), s.forgotten(), s.topics()}
		args := []any{len(m.Upto)}
		for stream, seq := range m.Upto {
			args = append(args, markField(m.Name, stream), seq)
		}
		for i, id := range owned {
			topic, _ := records[i][0].(string)
			text, _ := records[i][1].(string)
			lapses := timestamp(number(text)).AsTime()
			keys = append(keys, s.permission(id), s.waiting(topic), s.counts(topic), s.lapsing(dayOf(lapses)))
			args = append(args, id, topic, entry(id, lapses)[:idBytes])
		}
		results, err := l.run(ctx, []redislua.Call{{Script: forgetScript, Keys: keys, Args: args}})
		if err != nil {
			return 0, fmt.Errorf("forget: %w", err)
		}
		if erased := results[0].(int64); erased >= 0 {
			return erased, nil
		}
	}
}

// Marked tells whether a mark is here and its person erased.
func (l *Ledger) Marked(ctx context.Context, m Mark) (bool, error) {
	seq, err := l.rdb.HGet(ctx, slotOf(m.PageID, m.Shard).forgotten(), markField(m.Name, topology.People)).Uint64()
	if err != nil && !errors.Is(err, redis.Nil) {
		return false, fmt.Errorf("marks: %w", unavailable(err))
	}
	return seq >= m.Upto[topology.People], nil
}

// Found is somebody whom a mark means, with the permissions that were erased.
type Found struct {
	Mark        Mark
	PSID        string
	Permissions []string
}

// EraseMarked applies marks that were read from the stream PEOPLE. For those that are new, whoever they mean is looked for among
// everybody, erased and given back. SetMarks ends it: until then a mark counts as new.
func (l *Ledger) EraseMarked(ctx context.Context, marks []Mark) ([]Found, error) {
	fresh := map[slot]map[string]Mark{} // by name
	pages := map[slot]string{}
	for _, m := range marks {
		known, err := l.Marked(ctx, m)
		if err != nil {
			return nil, err
		}
		if known {
			continue
		}
		if _, err := l.Forget(ctx, m.begun(), ""); err != nil {
			return nil, err
		}
		s := slotOf(m.PageID, m.Shard)
		if fresh[s] == nil {
			fresh[s] = map[string]Mark{}
		}
		fresh[s][m.Name], pages[s] = m, m.PageID
	}
	if len(fresh) == 0 {
		return nil, nil
	}
	var mu sync.Mutex // servers are gone through at the same time
	var found []Found
	for _, pattern := range []string{"{*:??}:u:*", "{*:??}:o:*"} {
		err := l.eachKey(ctx, pattern, func(ctx context.Context, _ redis.Cmdable, key string) error {
			tag, rest, _ := strings.Cut(key, "}:")
			s, psid := slot(tag+"}"), rest[len("u:"):]
			if len(fresh[s]) == 0 {
				return nil
			}
			for _, name := range l.Names(pages[s], psid) {
				m, ok := fresh[s][name]
				if !ok {
					continue
				}
				owned, err := l.Owned(ctx, m.PageID, psid)
				if err != nil {
					return err
				}
				if _, err := l.Forget(ctx, m.begun(), psid); err != nil {
					return err
				}
				mu.Lock()
				found = append(found, Found{m, psid, owned})
				mu.Unlock()
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("look for the forgotten: %w", err)
		}
	}
	return found, nil
}

// SetMarks sets marks whose people are erased.
func (l *Ledger) SetMarks(ctx context.Context, marks []Mark) error {
	for _, m := range marks {
		if _, err := l.Forget(ctx, m, ""); err != nil {
			return err
		}
	}
	return nil
}

// begun is the mark without its field for PEOPLE, which says that the erasure is done.
func (m Mark) begun() Mark {
	m.Upto = maps.Clone(m.Upto)
	delete(m.Upto, topology.People)
	return m
}

// Fact says of whom a message is, and where it stands in its stream.
type Fact struct {
	PageID, PSID string
	Seq          uint64
}

// Forgotten tells, for each fact of a stream in its place, whether its person was forgotten after it.
func (l *Ledger) Forgotten(ctx context.Context, stream string, facts []Fact) ([]bool, error) {
	forgotten := make([]bool, len(facts))
	if len(facts) == 0 {
		return forgotten, nil
	}
	pipe := l.rdb.Pipeline()
	cmds := make([]*redis.SliceCmd, len(facts))
	for i, f := range facts {
		cmds[i] = pipe.HMGet(ctx, slotOf(f.PageID, ids.Shard(f.PSID)).forgotten(), l.marks(f.PageID, f.PSID, stream)...)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("marks: %w", unavailable(err))
	}
	for i, cmd := range cmds {
		for _, value := range cmd.Val() {
			if text, ok := value.(string); ok && uint64(number(text)) >= facts[i].Seq { //nolint:gosec // sequences are not negative
				forgotten[i] = true
			}
		}
	}
	return forgotten, nil
}

// Erased tells whether a permission was erased with its person: there is none by this id, and the person was forgotten once.
func (l *Ledger) Erased(ctx context.Context, pageID, psid, permissionID string) (bool, error) {
	once, err := l.Forgotten(ctx, topology.People, []Fact{{pageID, psid, 0}})
	if err != nil || !once[0] {
		return false, err
	}
	p, err := l.Permission(ctx, pageID, permissionID)
	return p == nil, err
}

// Holds tells whether something is known of a person.
func (l *Ledger) Holds(ctx context.Context, pageID, psid string) (bool, error) {
	p, err := l.Person(ctx, pageID, psid)
	return p != nil, err
}

// Owned are the permissions of a person.
func (l *Ledger) Owned(ctx context.Context, pageID, psid string) ([]string, error) {
	owned, err := l.rdb.SMembers(ctx, slotOf(pageID, ids.Shard(psid)).owned(psid)).Result()
	if err != nil {
		return nil, fmt.Errorf("permissions of a person: %w", unavailable(err))
	}
	slices.Sort(owned)
	return owned, nil
}
