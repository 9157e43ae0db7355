package ledger_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onebell/onebell/proto/ids"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/services/token/internal/ledger"
	"github.com/onebell/onebell/services/token/internal/permission"
)

// failer is testing.TB and rapid.T, as far as they are needed here.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

var pages atomic.Int64

// world is a page on which everything is done twice: by the scripts and by the model. After each move the two are compared.
type world struct {
	t      failer
	ctx    context.Context
	b      book
	page   string
	paused bool
	people map[string]*person
	book   map[string]*entry // by permission id
}

type person struct {
	stopped bool
	seq     uint64
	changed int64 // by the fact of that sequence, also when it is applied again
}

// entry is a permission: what its opt-in will say or has said, and what the model makes of it.
type entry struct {
	optin ledger.Optin
	id    string
	permission.Record
}

func newWorld(ctx context.Context, t failer, b book) *world {
	return &world{t, ctx, b, fmt.Sprint("page-", pages.Add(1)), false, map[string]*person{}, map[string]*entry{}}
}

// expect adds a permission whose opt-in is not read yet.
func (w *world) expect(psid, token, topic string, lapses time.Time) *entry {
	now := time.Now().Truncate(time.Millisecond)
	o := ledger.Optin{PageID: w.page, PSID: psid, Token: token, Topic: topic, OptedInAt: now, ExpiresAt: lapses.Truncate(time.Millisecond)}
	e := &entry{optin: o, id: o.ID()}
	w.book[e.id] = e
	if w.people[psid] == nil {
		w.people[psid] = &person{}
	}
	return e
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v", err)
	}
}

// pause pauses the page for good: a grant may believe for a second what was so before.
func (w *world) pause() {
	w.t.Helper()
	w.must(w.b.ApplyPage(w.ctx, &tokenv1.PageFact{
		PageId: w.page, At: timestamppb.Now(),
		What: &tokenv1.PageFact_Paused{Paused: &tokenv1.PagePaused{Cause: tokenv1.PauseCause_PAUSE_CAUSE_OPERATOR}},
	}))
	w.paused = true
}

func (w *world) record(e *entry) {
	w.t.Helper()
	got, err := w.b.Record(w.ctx, []ledger.Optin{e.optin})
	w.must(err)
	want := e.Optin(e.optin.Topic, e.optin.ExpiresAt, w.people[e.optin.PSID].stopped, time.Now())
	if got[0] != want {
		w.t.Errorf("recorded %v, the model says %v", got[0], want)
	}
}

func (w *world) grant(e *entry, send, topic string) *tokenv1.GrantResult {
	w.t.Helper()
	const lease = 9 * time.Minute
	begun := time.Now().Truncate(time.Millisecond)
	all, err := w.b.Grant(w.ctx, []*tokenv1.GrantItem{{PageId: w.page, PermissionId: e.id, SendId: send, Topic: topic, Lease: durationpb.New(lease)}})
	w.must(err)
	want, denial := e.Grant(send, topic, w.paused, lease, time.Now())
	got := all[0]
	if d := got.GetDenied(); d != nil || denial != 0 {
		if int(d.GetReason()) != int(denial) {
			w.t.Errorf("grant to %s: %v, the model says %v, %v", send, got.GetResult(), want, tokenv1.DenialReason(denial)) //nolint:gosec // small
		}
		return got
	}
	g := got.GetGranted()
	if g.GetFence() != want.Fence || g.GetAgain() != want.Again || g.GetAfterUnknown() != want.AfterUnknown {
		w.t.Errorf("granted %v, the model says %v", g, want)
	}
	if g.GetRecipientToken() != e.optin.Token || g.GetPsid() != e.optin.PSID {
		w.t.Errorf("granted %v, of another permission", g)
	}
	if until := g.GetExpiresAt().AsTime(); until.Before(begun.Add(lease)) || until.After(want.Until) {
		w.t.Errorf("the lease ends at %v, want %v or a little before", until, want.Until)
	}
	return got
}

func (w *world) settlement(e *entry, f permission.Fact) []ledger.Settlement {
	return []ledger.Settlement{{
		PageID: w.page, PermissionID: e.id, SendID: f.Send, Fence: f.Fence, Effect: ledger.Effect(f.Effect), MessageID: f.MessageID, NotBefore: f.NotBefore,
	}}
}

func (w *world) apply(e *entry, f permission.Fact) {
	w.t.Helper()
	got, err := w.b.Apply(w.ctx, w.settlement(e, f))
	w.must(err)
	if want := e.Apply(f, time.Now()); string(got[0]) != string(want) {
		w.t.Errorf("%v: %s, the model says %s", f, got[0], want)
	}
}

// settle applies a fact with nothing else in it.
func (w *world) settle(e *entry, effect permission.Effect, send string, fence uint64) {
	w.t.Helper()
	w.apply(e, permission.Fact{Effect: effect, Send: send, Fence: fence})
}

func (w *world) check(e *entry, f permission.Fact) {
	w.t.Helper()
	got, err := w.b.Check(w.ctx, w.settlement(e, f))
	w.must(err)
	if want := e.Check(f); string(got[0]) != string(want) {
		w.t.Errorf("check of %v: %s, the model says %s", f, got[0], want)
	}
}

func (w *world) sweep(e *entry) {
	w.t.Helper()
	moved, _, err := w.b.Expire(w.ctx, w.page, []string{e.id})
	w.must(err)
	if want := e.Sweep(time.Now()); (moved == 1) != want {
		w.t.Errorf("swept: %d, the model says %v", moved, want)
	}
}

// say applies a stop or a resume.
func (w *world) say(psid string, stopped bool, seq uint64) {
	w.t.Helper()
	fact := &tokenv1.PersonFact{PageId: w.page, Psid: psid, What: &tokenv1.PersonFact_Resumed{Resumed: &tokenv1.Resumed{}}}
	if stopped {
		fact.What = &tokenv1.PersonFact_Stopped{Stopped: &tokenv1.Stopped{}}
	}
	got, err := w.b.ApplyPerson(w.ctx, fact, seq)
	w.must(err)
	p, want := w.people[psid], int64(0)
	if p == nil {
		p = &person{}
		w.people[psid] = p
	}
	if seq >= p.seq {
		if seq == p.seq {
			want = p.changed
		}
		p.stopped, p.seq = stopped, seq
		for _, e := range w.book {
			if e.optin.PSID != psid || !e.Known {
				continue
			}
			if stopped && e.Stop(time.Now()) || !stopped && e.Resume(time.Now()) {
				want++
			}
		}
		p.changed = want
	}
	if got != want {
		w.t.Errorf("stopped %v, sequence %d: %d changed, the model says %d", stopped, seq, got, want)
	}
}

// turn lets a time of the record pass, as if the clock had been turned: the end of the lease, the lapse, or the parking.
func (w *world) turn(e *entry, field string) {
	w.t.Helper()
	past := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	switch {
	case field == "l" && e.State == permission.Granted:
		e.Until = past
	case field == "n" && !e.NotBefore.IsZero():
		e.NotBefore = past
	case field == "x" && e.Known:
		e.Lapses = past
	default:
		return
	}
	w.must(w.b.rdb.HSet(w.ctx, w.slot(e)+":p:"+e.id, field, past.UnixMilli()).Err())
}

func (w *world) slot(e *entry) string { return "{" + w.page + ":" + ids.Shard(e.optin.PSID) + "}" }

var letters = map[permission.State]string{
	permission.Waiting: "w", permission.Granted: "g", permission.Unknown: "u", permission.Spent: "s",
	permission.Expired: "e", permission.Revoked: "r", permission.Void: "v",
}

// compare reads the keys and holds them against the model: every record, every list, every count.
func (w *world) compare() {
	w.t.Helper()
	pipe := w.b.rdb.Pipeline()
	records, lists, counts := map[string]*redis.MapStringStringCmd{}, map[string]*redis.StringSliceCmd{}, map[string]*redis.MapStringStringCmd{}
	waiting, by := map[string][]string{}, map[string]map[string]string{}
	for id, e := range w.book {
		key := w.slot(e) + " " + e.optin.Topic
		records[id] = pipe.HGetAll(w.ctx, w.slot(e)+":p:"+id)
		lists[key] = pipe.ZRange(w.ctx, w.slot(e)+":w:"+e.optin.Topic, 0, -1)
		counts[key] = pipe.HGetAll(w.ctx, w.slot(e)+":c:"+e.optin.Topic)
		if by[key] == nil {
			by[key] = map[string]string{}
		}
		if !e.Known {
			continue
		}
		n, _ := strconv.Atoi(by[key][letters[e.State]])
		by[key][letters[e.State]] = strconv.Itoa(n + 1)
		if e.State == permission.Waiting {
			waiting[key] = append(waiting[key], id)
		}
	}
	_, err := pipe.Exec(w.ctx)
	w.must(err)
	for id, e := range w.book {
		if got, want := shown(records[id].Val()), e.fields(); !maps.Equal(got, want) {
			w.t.Fatalf("record %s is\n%v, the model says\n%v", id, got, want)
		}
	}
	for key, list := range lists {
		got := counts[key].Val()
		maps.DeleteFunc(got, func(_, n string) bool { return n == "0" })
		slices.Sort(waiting[key])
		if ids := slices.Sorted(slices.Values(list.Val())); !slices.Equal(ids, waiting[key]) || !maps.Equal(got, by[key]) {
			w.t.Fatalf("%s: counts %v, waiting %v, the model says %v, %v", key, got, ids, by[key], waiting[key])
		}
	}
}

// shown is a record without what never changes. The end of the lease is not to the millisecond.
func shown(record map[string]string) map[string]string {
	out := map[string]string{}
	for _, field := range []string{"s", "f", "i", "j", "y", "d", "m", "n", "t", "x", "h"} {
		if v, ok := record[field]; ok {
			out[field] = v
		}
	}
	return out
}

// fields is how the model's record is written.
func (e *entry) fields() map[string]string {
	out := map[string]string{}
	put := func(field, value string, is bool) {
		if is {
			out[field] = value
		}
	}
	put("s", letters[e.State], e.State != 0)
	put("f", fmt.Sprint(e.Fence), e.Fence > 0)
	put("i", e.Holder(), e.Holder() != "")
	put("j", e.Send, e.Send != e.Holder())
	var unclear, released strings.Builder
	for _, d := range e.Unclear {
		fmt.Fprintf(&unclear, "%d:%d:%s", d.Fence, len(d.Send), d.Send)
	}
	for i := 0; i < len(e.Released); {
		j := i
		for j+1 < len(e.Released) && e.Released[j+1] == e.Released[j]+1 {
			j++
		}
		if i > 0 {
			released.WriteByte(' ')
		}
		fmt.Fprint(&released, e.Released[i])
		if j > i {
			fmt.Fprint(&released, "-", e.Released[j])
		}
		i = j + 1
	}
	put("y", unclear.String(), len(e.Unclear) > 0)
	put("d", released.String(), len(e.Released) > 0)
	put("m", e.MessageID, e.MessageID != "")
	put("n", fmt.Sprint(e.NotBefore.UnixMilli()), !e.NotBefore.IsZero())
	put("t", "1", e.Ended)
	put("x", fmt.Sprint(e.Lapses.UnixMilli()), e.Known)
	put("h", "1", e.Stopped)
	return out
}

// Whoever calls the ledger sees what the model says, also through its own words.
func (w *world) compareAnswers(t testing.TB) {
	t.Helper()
	want := map[string]map[permission.State]int64{}
	for id, e := range w.book {
		p, err := w.b.Permission(w.ctx, w.page, id)
		w.must(err)
		if !e.Known {
			if p != nil {
				w.t.Errorf("permission %s is %v, the model has not read its opt-in", id, p)
			}
			continue
		}
		if want[e.optin.Topic] == nil {
			want[e.optin.Topic] = map[permission.State]int64{}
		}
		want[e.optin.Topic][e.State]++
		if int(p.GetState()) != int(e.State) || p.GetSendId() != e.Holder() || p.GetMessageId() != e.MessageID {
			w.t.Errorf("permission is %v, the model says %+v", p, e.Record)
		}
	}
	for topic, by := range want {
		all, err := w.b.Count(w.ctx, w.page, topic)
		w.must(err)
		c := all[0]
		got := []int64{c.GetWaiting(), c.GetGranted(), c.GetUnknown(), c.GetSpent(), c.GetExpired(), c.GetRevoked(), c.GetVoid()}
		for i, n := range got {
			if state := permission.State(i + 1); by[state] != n {
				w.t.Errorf("count of state %d of %s: %d, the model says %d", state, topic, n, by[state])
			}
		}
	}
}
