package token_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onebell/onebell/pkg/testkit"
	"github.com/onebell/onebell/proto/ids"
	outcomev1 "github.com/onebell/onebell/proto/onebell/outcome/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/token/internal/ledger"
	"github.com/onebell/onebell/services/token/internal/seal"
)

func (w *world) forget(psid string) int64 {
	w.t.Helper()
	resp, err := w.client.ForgetPerson(w.t.Context(), &tokenv1.ForgetPersonRequest{PageId: page, Psid: psid})
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.GetPermissions()
}

// held is every message of a stream as text.
func (w *world) held(stream string) (all []string) {
	w.t.Helper()
	s, err := w.js.Stream(w.t.Context(), stream)
	if err != nil {
		w.t.Fatal(err)
	}
	for seq := s.CachedInfo().State.FirstSeq; seq <= s.CachedInfo().State.LastSeq; seq++ {
		if msg, err := s.GetMsg(w.t.Context(), seq); err == nil {
			all = append(all, fmt.Sprint(msg.Subject, msg.Header, string(msg.Data)))
		}
	}
	return all
}

// traces are the messages and Redis keys in which a text stands.
func (w *world) traces(text string) (found []string) {
	w.t.Helper()
	for _, stream := range []string{topology.Optins, topology.People, topology.Outcomes, topology.Events} {
		for _, m := range w.held(stream) {
			if strings.Contains(m, text) {
				found = append(found, stream+": "+m)
			}
		}
	}
	keys, err := w.rdb.Keys(w.t.Context(), "*").Result()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, key := range keys {
		dump, err := w.rdb.Dump(w.t.Context(), key).Result()
		if err != nil {
			continue // gone since
		}
		if strings.Contains(key, text) || strings.Contains(dump, text) {
			found = append(found, key)
		}
	}
	return found
}

func (w *world) tag(psid, tag string) {
	w.t.Helper()
	if _, err := w.client.TagPerson(w.t.Context(), &tokenv1.TagPersonRequest{PageId: page, Psid: psid, Add: []string{tag}}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) emptyRedis() {
	w.t.Helper()
	if err := w.rdb.FlushAll(w.t.Context()).Err(); err != nil {
		w.t.Fatal(err)
	}
}

const gone, stays = "psid-7000001", "psid-7000002"

func TestAForgottenPersonLeavesNoTrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := w.start()
	spent, _ := w.optin(gone, "t-1", "stock:A"), w.optin(gone, "t-2", "custom:only me")
	w.optin(stays, "t-3", "stock:A")
	w.publish(topology.EventSubject(page, gone, "postback"), "pb-1", []byte(`{"sender":{"id":"`+gone+`"},"timestamp":1782900000000,"postback":{"payload":"LIKES:red"}}`), gone, "postback")
	w.tag(gone, "vip")
	w.tag(stays, "vip")
	w.eventually("stock:A", 2, 0, 0, 0, 0, 0, 0)
	g := w.grant(spent, "send-1", "stock:A").GetGranted()
	w.outcome(&outcomev1.Outcome{PermissionId: spent, SendId: "send-1", Fence: g.GetFence(), Psid: gone, Verdict: "sent", MessageId: "m1", Final: true})
	w.outcome(&outcomev1.Outcome{PermissionId: spent, SendId: "send-0", Verdict: "not_in_wave", Final: true})
	w.eventually("stock:A", 1, 0, 0, 1, 0, 0, 0)
	testkit.Eventually(t, "the postback tagged the person", func() bool {
		p, err := w.client.GetPerson(t.Context(), &tokenv1.GetPersonRequest{PageId: page, Psid: gone})
		return err == nil && len(p.GetPerson().GetTags()) == 2
	})

	if n := w.forget(gone); n != 2 {
		t.Errorf("erased %d permissions, want 2", n)
	}
	nothing := func(when string) {
		t.Helper()
		for _, text := range []string{gone, spent, "only me"} {
			if found := w.traces(text); len(found) > 0 {
				t.Errorf("%s: %q is found in %q", when, text, found)
			}
		}
		w.eventually("stock:A", 1, 0, 0, 0, 0, 0, 0)
		if _, err := w.client.GetPerson(t.Context(), &tokenv1.GetPersonRequest{PageId: page, Psid: gone}); status.Code(err) != codes.NotFound {
			t.Errorf("%s: GetPerson: %v", when, err)
		}
		if r := w.grant(spent, "send-2", "stock:A"); r.GetDenied().GetReason() != tokenv1.DenialReason_DENIAL_REASON_UNKNOWN_PERMISSION {
			t.Errorf("%s: granted: %v", when, r)
		}
		all, err := w.client.Count(t.Context(), &tokenv1.CountRequest{PageId: page})
		if err != nil || len(all.GetCounts()) != 1 {
			t.Errorf("%s: topics %v, %v", when, all, err)
		}
		if p, err := w.client.GetPerson(t.Context(), &tokenv1.GetPersonRequest{PageId: page, Psid: stays}); err != nil || len(p.GetPerson().GetTags()) != 1 {
			t.Errorf("%s: the other person: %v, %v", when, p, err)
		}
	}
	nothing("at once")
	if n := w.forget(gone); n != 0 {
		t.Errorf("a second time: %d permissions", n)
	}
	if people := w.held(topology.People); len(people) != 2 {
		t.Errorf("PEOPLE holds %q, want one mark and the tag of the other", people)
	}
	w.emptyRedis()
	nothing("rebuilt while running")
	stop()
	w.emptyRedis()
	w.start()
	nothing("rebuilt at start")
	// Whoever comes back is welcome.
	again := w.optin(gone, "t-9", "stock:A")
	w.eventually("stock:A", 2, 0, 0, 0, 0, 0, 0)
	w.emptyRedis()
	w.eventually("stock:A", 2, 0, 0, 0, 0, 0, 0)
	if g := w.grant(again, "send-3", "stock:A").GetGranted(); g == nil {
		t.Error("the new opt-in is not granted")
	}
}

// newNames gives the names of people under the key of the tests.
func newNames(t *testing.T) func(page, psid string) []string {
	var keys seal.Keys
	if err := keys.UnmarshalText([]byte(base64.StdEncoding.EncodeToString(make([]byte, 32)))); err != nil {
		t.Fatal(err)
	}
	return ledger.New(nil, &keys).Names
}

// mark publishes the mark of a person who is forgotten now, as if whoever forgets was killed after it.
func (w *world) mark(psid string) {
	w.t.Helper()
	last := map[string]uint64{}
	for _, name := range []string{topology.Optins, topology.Events, topology.Outcomes} {
		s, err := w.js.Stream(w.t.Context(), name)
		if err != nil {
			w.t.Fatal(err)
		}
		last[name] = s.CachedInfo().State.LastSeq
	}
	body, err := proto.Marshal(&tokenv1.PersonFact{PageId: page, At: timestamppb.Now(), What: &tokenv1.PersonFact_Forgotten{Forgotten: &tokenv1.Forgotten{
		Shard: ids.Shard(psid), Name: newNames(w.t)(page, psid)[0],
		OptinsSequence: last[topology.Optins], EventsSequence: last[topology.Events], OutcomesSequence: last[topology.Outcomes],
	}}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.publish(topology.PersonSubject(page, psid), "", body, "", "")
}

// Whoever forgets is killed after the mark: Redis and the streams still hold everything. The next start finishes it.
func TestAnErasureThatWasCutOffHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := w.start()
	w.optin(gone, "t-1", "stock:A")
	w.optin(stays, "t-2", "stock:A")
	w.tag(gone, "vip")
	w.publish(topology.EventSubject(page, gone, "message"), "m-1", []byte(`{"sender":{"id":"`+gone+`"},"timestamp":1782900000000,"message":{"text":"hi"}}`), gone, "message")
	w.eventually("stock:A", 2, 0, 0, 0, 0, 0, 0)
	stop()
	w.mark(gone)
	unknown := func(when string) {
		t.Helper()
		w.eventually("stock:A", 1, 0, 0, 0, 0, 0, 0)
		if _, err := w.client.GetPerson(t.Context(), &tokenv1.GetPersonRequest{PageId: page, Psid: gone}); status.Code(err) != codes.NotFound {
			t.Errorf("%s: GetPerson: %v", when, err)
		}
	}
	w.start()
	unknown("caught up")
	w.emptyRedis()
	unknown("rebuilt")
	// Redis still held the person at the start: what was begun is finished without another call.
	if found := w.traces(gone); len(found) > 0 {
		t.Errorf("found in %q", found)
	}
}

// As before, but Redis is gone as well: nobody knows any more whom the mark means.
func TestAnErasureThatWasCutOffIsFinishedByTheNextCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := w.start()
	w.optin(gone, "t-1", "stock:A")
	w.optin(stays, "t-2", "stock:A")
	w.eventually("stock:A", 2, 0, 0, 0, 0, 0, 0)
	stop()
	w.emptyRedis()
	w.mark(gone)
	again := w.optin(gone, "t-3", "stock:A")
	w.start()
	w.eventually("stock:A", 2, 0, 0, 0, 0, 0, 0)
	if g := w.grant(again, "send-1", "stock:A").GetGranted(); g == nil {
		t.Error("the opt-in after the mark is not granted")
	}
	if len(w.held(topology.Optins)) != 3 {
		t.Error("the story is wrong: nothing is left in the streams")
	}
	w.forget(gone)
	if found := w.traces(gone); len(found) > 0 {
		t.Errorf("found in %q", found)
	}
	w.eventually("stock:A", 1, 0, 0, 0, 0, 0, 0)
}

func TestAnOutcomeAfterTheErasureLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	id := w.optin(gone, "t-1", "stock:A")
	w.eventually("stock:A", 1, 0, 0, 0, 0, 0, 0)
	g := w.grant(id, "send-1", "stock:A").GetGranted()
	w.forget(gone)
	w.outcome(&outcomev1.Outcome{PermissionId: id, SendId: "send-1", Fence: g.GetFence(), Psid: gone, Verdict: "sent", MessageId: "m1", Final: true})
	testkit.Eventually(t, "the outcome is deleted", func() bool { return len(w.held(topology.Outcomes)) == 0 })
	if found := append(w.traces(gone), w.traces(id)...); len(found) > 0 {
		t.Errorf("found in %q", found)
	}
	all, err := w.client.Count(t.Context(), &tokenv1.CountRequest{PageId: page})
	if err != nil || len(all.GetCounts()) != 0 {
		t.Errorf("counts %v, %v", all, err)
	}
}

func TestForgettingOnEveryPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	for i, p := range []string{"page-1", "page-2"} {
		item := &tokenv1.RecordItem{PageId: p, Psid: gone, Kind: tokenv1.Kind_KIND_OTN, Token: fmt.Sprint("t-", i), Topic: "stock:A"}
		if _, err := w.client.Record(t.Context(), &tokenv1.RecordRequest{Items: []*tokenv1.RecordItem{item}}); err != nil {
			t.Fatal(err)
		}
	}
	resp, err := w.client.ForgetPerson(t.Context(), &tokenv1.ForgetPersonRequest{Psid: gone})
	if err != nil || resp.GetPermissions() != 2 {
		t.Errorf("ForgetPerson = %v, %v, want 2 permissions", resp, err)
	}
	if found := w.traces(gone); len(found) > 0 {
		t.Errorf("found in %q", found)
	}
	// The same token once more, within the time in which the stream knows repeats.
	item := &tokenv1.RecordItem{PageId: "page-1", Psid: gone, Kind: tokenv1.Kind_KIND_OTN, Token: "t-0", Topic: "stock:A"}
	if r, err := w.client.Record(t.Context(), &tokenv1.RecordRequest{Items: []*tokenv1.RecordItem{item}}); err != nil || r.GetResults()[0].GetRecorded() == nil {
		t.Errorf("Record = %v, %v", r, err)
	}
	w.emptyRedis()
	testkit.Eventually(t, "the new opt-in is rebuilt", func() bool {
		c, err := w.client.Count(t.Context(), &tokenv1.CountRequest{PageId: "page-1", Topic: "stock:A"})
		return err == nil && c.GetCounts()[0].GetWaiting() == 1
	})
	_, err = w.client.ForgetPerson(t.Context(), &tokenv1.ForgetPersonRequest{PageId: page})
	if v := violations(err); status.Code(err) != codes.InvalidArgument || len(v) != 1 || v[0] != "psid" {
		t.Errorf("no psid: %v", err)
	}
}

func TestExportGivesEverythingButTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	id := w.optin(gone, "secret-1", "stock:A?qty=2")
	w.optin(stays, "secret-2", "stock:A")
	w.tag(gone, "vip")
	w.publish(topology.EventSubject(page, gone, "message"), "m-1", []byte(`{"sender":{"id":"`+gone+`"},"timestamp":1782900000000,"message":{"text":"hi"}}`), gone, "message")
	w.outcome(&outcomev1.Outcome{PermissionId: id, SendId: "send-0", Verdict: "not_in_wave", Final: true})
	w.eventually("stock:A", 2, 0, 0, 0, 0, 0, 0)
	resp, err := w.client.ExportPerson(t.Context(), &tokenv1.ExportPersonRequest{PageId: page, Psid: gone})
	if err != nil || resp.GetCursor() != "" {
		t.Fatalf("ExportPerson = %v, %v", resp, err)
	}
	if strings.Contains(resp.GetJson(), "secret") || strings.Contains(resp.GetJson(), stays) {
		t.Errorf("a token, or somebody else, is in %s", resp.GetJson())
	}
	var out struct {
		PageID      string `json:"page_id"`
		Person      struct{ Tags []string }
		Permissions []struct {
			ID    string `json:"permission_id"`
			State string
		}
		Facts []struct {
			Stream string
			Body   json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(resp.GetJson()), &out); err != nil {
		t.Fatal(err)
	}
	var streams []string
	for _, f := range out.Facts {
		streams = append(streams, f.Stream)
	}
	if out.PageID != page || len(out.Person.Tags) != 1 || len(out.Permissions) != 1 || out.Permissions[0].ID != id ||
		out.Permissions[0].State != "PERMISSION_STATE_WAITING" || strings.Join(streams, " ") != "OPTINS PEOPLE OUTCOMES EVENTS" {
		t.Errorf("export %s", resp.GetJson())
	}
	if _, err := w.client.ExportPerson(t.Context(), &tokenv1.ExportPersonRequest{PageId: page, Psid: "nobody"}); status.Code(err) != codes.NotFound {
		t.Errorf("nobody: %v", err)
	}
	_, err = w.client.ExportPerson(t.Context(), &tokenv1.ExportPersonRequest{Psid: gone, Cursor: "x"})
	if v := violations(err); len(v) != 2 {
		t.Errorf("no page, bad cursor: %v", err)
	}
}

// An export of more than one answer holds gives each fact once.
func TestALongExportComesInParts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.optin(gone, "t-1", "stock:A")
	w.eventually("stock:A", 1, 0, 0, 0, 0, 0, 0)
	text := strings.Repeat("x", 100_000)
	const messages = 25
	for i := range messages {
		w.publish(topology.EventSubject(page, gone, "echo"), fmt.Sprint("e-", i), []byte(`{"message":{"text":"`+text+`"}}`), gone, "echo")
	}
	seen, cursor := map[string]bool{}, ""
	for parts := 1; ; parts++ {
		resp, err := w.client.ExportPerson(t.Context(), &tokenv1.ExportPersonRequest{PageId: page, Psid: gone, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		var out struct {
			Facts []struct{ Stream, Sequence string }
		}
		if err := json.Unmarshal([]byte(resp.GetJson()), &out); err != nil {
			t.Fatal(err)
		}
		for _, f := range out.Facts {
			if seen[f.Stream+f.Sequence] {
				t.Errorf("%v twice", f)
			}
			seen[f.Stream+f.Sequence] = true
		}
		if cursor = resp.GetCursor(); cursor == "" {
			if len(seen) != messages+1 || parts < 3 {
				t.Errorf("%d facts in %d parts", len(seen), parts)
			}
			return
		}
	}
}

func TestWhatLapsesIsSaidAndThenSwept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	now := time.Now()
	item := func(psid, topic string, lapses time.Duration) *tokenv1.RecordItem {
		return &tokenv1.RecordItem{
			PageId: page, Psid: psid, Kind: tokenv1.Kind_KIND_OTN, Token: psid + topic, Topic: topic,
			OptedInAt: timestamppb.New(now.Add(-time.Hour)), ExpiresAt: timestamppb.New(now.Add(lapses)),
		}
	}
	day := 24 * time.Hour
	resp, err := w.client.Record(t.Context(), &tokenv1.RecordRequest{Items: []*tokenv1.RecordItem{
		item("1", "stock:A", 10*time.Second), item("2", "stock:A", 10*day), item("3", "stock:A", 29*day), item("4", "price:B", 5*day), item("5", "price:B", 40*day),
	}})
	if err != nil {
		t.Fatal(err)
	}
	// Used ones do not lapse.
	if _, err := w.client.StopPerson(t.Context(), &tokenv1.StopPersonRequest{PageId: page, Psid: "3"}); err != nil {
		t.Fatal(err)
	}
	for _, pageID := range []string{page, ""} {
		answer, err := w.client.Expiring(t.Context(), &tokenv1.ExpiringRequest{PageId: pageID, Within: durationpb.New(30 * day)})
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, c := range answer.GetCounts() {
			said = append(said, fmt.Sprint(c.GetPageId(), " ", c.GetTopic(), " ", c.GetPermissions(), " ", c.GetFirstAt().AsTime().Sub(now).Round(time.Second)))
		}
		if got, want := fmt.Sprint(said), fmt.Sprintf("[%s price:B 1 120h0m0s %s stock:A 2 10s]", page, page); got != want {
			t.Errorf("expiring of %q: %s, want %s", pageID, got, want)
		}
	}
	if _, err := w.client.Expiring(t.Context(), &tokenv1.ExpiringRequest{PageId: page}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("no period: %v", err)
	}
	w.eventually("stock:A", 1, 0, 0, 0, 1, 1, 0)
	p, err := w.client.GetPermission(t.Context(), &tokenv1.GetPermissionRequest{PageId: page, PermissionId: resp.GetResults()[0].GetPermissionId()})
	if err != nil || p.GetPermission().GetState() != tokenv1.PermissionState_PERMISSION_STATE_EXPIRED {
		t.Errorf("swept: %v, %v", p, err)
	}
}

func TestTopicsComeInOrderAndInParts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	for i, topic := range []string{"stock:B", "price:A", "stock:A", "stock:C", "stock:A"} {
		item := &tokenv1.RecordItem{PageId: page, Psid: fmt.Sprint(i), Kind: tokenv1.Kind_KIND_OTN, Token: fmt.Sprint("t-", i), Topic: topic}
		if _, err := w.client.Record(t.Context(), &tokenv1.RecordRequest{Items: []*tokenv1.RecordItem{item}}); err != nil {
			t.Fatal(err)
		}
	}
	var all []string
	for cursor := ""; ; {
		resp, err := w.client.Topics(t.Context(), &tokenv1.TopicsRequest{PageId: page, Prefix: "stock:", PageSize: 2, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range resp.GetTopics() {
			all = append(all, fmt.Sprint(c.GetTopic(), "=", c.GetWaiting()))
		}
		if cursor = resp.GetCursor(); cursor == "" {
			break
		}
		all = append(all, "|")
	}
	if got := strings.Join(all, " "); got != "stock:A=2 stock:B=1 | stock:C=1" {
		t.Errorf("topics %s", got)
	}
	_, err := w.client.Topics(t.Context(), &tokenv1.TopicsRequest{PageSize: 5000})
	if v := violations(err); len(v) != 2 {
		t.Errorf("no page, too many: %v", err)
	}
}
