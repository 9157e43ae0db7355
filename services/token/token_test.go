package token_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onebell/onebell/pkg/config"
	"github.com/onebell/onebell/pkg/rpc"
	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/pkg/testkit"
	"github.com/onebell/onebell/proto/ids"
	outcomev1 "github.com/onebell/onebell/proto/onebell/outcome/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/token"
)

const page = "104200000000017"

const rulesText = `
tags: [{when: "event.payload.startsWith('LIKES:')", add: "event.payload.substring(6)"}]
payloads: [{match: '^NOTIFY_(?P<sku>.+)$', topic: "stock:${sku}"}]
`

// world is NATS, Redis and a running token service.
type world struct {
	t      *testing.T
	js     jetstream.JetStream
	rdb    redis.UniversalClient
	client tokenv1.TokenServiceClient

	sealKey string
	start   func() (stop func())
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t}
	natsURL, js := testkit.JetStream(t, topology.Configs(1))
	redisURL, rdb := testkit.Redis(t)
	w.js, w.rdb = js, rdb
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(rules, []byte(rulesText), 0o600); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	w.sealKey = base64.StdEncoding.EncodeToString(make([]byte, 32))
	w.start = func() func() {
		cfg, err := config.Load[token.Config](map[string]string{
			"ONEBELL_NATS_URL": natsURL, "ONEBELL_REDIS_URL": redisURL, "ONEBELL_RULES_FILE": rules, "ONEBELL_TOKEN_ADDR": addr,
			"ONEBELL_SEAL_KEY": w.sealKey,
		})
		if err != nil {
			t.Fatal(err)
		}
		stop := testkit.Run(t, "token", func(ctx context.Context) error { return token.Run(ctx, cfg, testkit.Process(t)) })
		testkit.Eventually(t, "the index is complete", func() bool {
			_, err := w.client.Count(t.Context(), &tokenv1.CountRequest{PageId: page})
			return err == nil
		})
		return stop
	}
	conn, err := rpc.Dial(addr, "", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	w.client = tokenv1.NewTokenServiceClient(conn)
	return w
}

// optin publishes an opt-in as the ingestor does, and gives its permission id.
func (w *world) optin(psid, otn, payload string) string {
	w.t.Helper()
	body := fmt.Sprintf(`{"sender":{"id":%q},"recipient":{"id":%q},"timestamp":%d,"optin":{"type":"one_time_notif_req","payload":%q,"one_time_notif_token":%q}}`,
		psid, page, time.Now().UnixMilli(), payload, otn)
	w.publish(topology.OptinSubject(page, psid), "otn:"+page+":"+otn, []byte(body), psid, "optin")
	return ids.Permission(page, psid, otn)
}

func (w *world) publish(subject, id string, body []byte, psid, kind string) {
	w.t.Helper()
	msg := stream.NewMsg(w.t.Context(), subject, id, body)
	msg.Header.Set(topology.HeaderPage, page)
	msg.Header.Set(topology.HeaderPerson, psid)
	msg.Header.Set(topology.HeaderKind, kind)
	if err := stream.PublishAll(w.t.Context(), w.js, msg); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) outcome(o *outcomev1.Outcome) {
	w.t.Helper()
	o.PageId = page
	body, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.publish(topology.OutcomeSubject(page, o.GetPermissionId()[:2], o.GetVerdict()), "", body, "", "")
}

// counts is waiting, granted, unknown, spent, expired, revoked, void; nil while the service is not ready.
func (w *world) counts(topic string) []int64 {
	resp, err := w.client.Count(w.t.Context(), &tokenv1.CountRequest{PageId: page, Topic: topic})
	if err != nil || len(resp.GetCounts()) != 1 {
		return nil
	}
	c := resp.GetCounts()[0]
	return []int64{c.GetWaiting(), c.GetGranted(), c.GetUnknown(), c.GetSpent(), c.GetExpired(), c.GetRevoked(), c.GetVoid()}
}

func (w *world) eventually(topic string, want ...int64) {
	w.t.Helper()
	testkit.Eventually(w.t, fmt.Sprintf("counts of %s are %v", topic, want), func() bool { return slices.Equal(w.counts(topic), want) })
}

func (w *world) grant(id, send, topic string) *tokenv1.GrantResult {
	w.t.Helper()
	resp, err := w.client.Grant(w.t.Context(), &tokenv1.GrantRequest{Items: []*tokenv1.GrantItem{{PageId: page, PermissionId: id, SendId: send, Topic: topic}}})
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.GetResults()[0]
}

func TestFromOptinToSpent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	id := w.optin("1", "token-1", "NOTIFY_A?qty=3")
	w.optin("1", "token-1", "NOTIFY_A?qty=3")
	w.eventually("stock:A", 1, 0, 0, 0, 0, 0, 0)

	p, err := w.client.GetPermission(t.Context(), &tokenv1.GetPermissionRequest{PageId: page, PermissionId: id})
	if err != nil || p.GetPermission().GetWish().GetQty() != 3 || p.GetPermission().GetPsid() != "1" {
		t.Errorf("GetPermission = %v, %v", p, err)
	}
	g := w.grant(id, "send-1", "stock:A").GetGranted()
	if g.GetRecipientToken() != "token-1" {
		t.Errorf("granted %v", g)
	}
	w.outcome(&outcomev1.Outcome{PermissionId: id, SendId: "send-1", Fence: g.GetFence(), Verdict: "sent", MessageId: "m1", Final: true})
	w.eventually("stock:A", 0, 0, 0, 1, 0, 0, 0)
	if r := w.grant(id, "send-2", "stock:A"); r.GetDenied().GetReason() != tokenv1.DenialReason_DENIAL_REASON_ALREADY_SPENT {
		t.Errorf("granted again: %v", r)
	}
	if _, err := w.client.GetPermission(t.Context(), &tokenv1.GetPermissionRequest{PageId: page, PermissionId: "00" + id[2:]}); status.Code(err) != codes.NotFound {
		t.Errorf("GetPermission of nothing: %v", err)
	}
}

func TestRecordAnswersItemByItem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	good := &tokenv1.RecordItem{PageId: page, Psid: "1", Kind: tokenv1.Kind_KIND_OTN, Token: "t1", Topic: "price:A", Wish: &tokenv1.Wish{Below: &tokenv1.Money{Amount: "49.90", Currency: "EUR"}}}
	bad := proto.CloneOf(good)
	bad.Topic = "weather"
	resp, err := w.client.Record(t.Context(), &tokenv1.RecordRequest{Items: []*tokenv1.RecordItem{good, bad, good}})
	if err != nil {
		t.Fatal(err)
	}
	r := resp.GetResults()
	if r[0].GetRecorded() == nil || r[1].GetInvalid() == nil || r[2].GetAlready() == nil {
		t.Errorf("results %v", r)
	}
	if r[0].GetPermissionId() != ids.Permission(page, "1", "t1") {
		t.Errorf("permission id %q", r[0].GetPermissionId())
	}
	var listed []string
	list, err := w.client.ListWaiting(t.Context(), &tokenv1.ListWaitingRequest{PageId: page, Topic: "price:A", Price: &tokenv1.Money{Amount: "49.9", Currency: "EUR"}})
	if err != nil {
		t.Fatal(err)
	}
	for {
		chunk, err := list.Recv()
		if err != nil {
			break
		}
		for _, p := range chunk.GetPermissions() {
			listed = append(listed, p.GetPermissionId())
		}
	}
	if !slices.Equal(listed, []string{r[0].GetPermissionId()}) {
		t.Errorf("listed %v", listed)
	}
	_, err = w.client.Record(t.Context(), &tokenv1.RecordRequest{})
	if violations := violations(err); status.Code(err) != codes.InvalidArgument || len(violations) != 1 || violations[0] != "items" {
		t.Errorf("no items: %v %v", err, violations)
	}
}

func violations(err error) (fields []string) {
	for _, d := range status.Convert(err).Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range bad.GetFieldViolations() {
				fields = append(fields, v.GetField())
			}
		}
	}
	return fields
}

func TestSettleGoesThroughTheLedger(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	id := w.optin("1", "token-1", "stock:A")
	w.eventually("stock:A", 1, 0, 0, 0, 0, 0, 0)
	g := w.grant(id, "s", "stock:A").GetGranted()
	settle := func(fence uint64, outcome func(*tokenv1.SettleItem)) *tokenv1.SettleResult {
		item := &tokenv1.SettleItem{PageId: page, PermissionId: id, SendId: "s", Fence: fence}
		outcome(item)
		resp, err := w.client.Settle(t.Context(), &tokenv1.SettleRequest{Items: []*tokenv1.SettleItem{item}})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetResults()[0]
	}
	released := func(i *tokenv1.SettleItem) {
		i.Outcome = &tokenv1.SettleItem_Released{Released: &tokenv1.Released{Reason: "condition_gone"}}
	}
	spent := func(i *tokenv1.SettleItem) {
		i.Outcome = &tokenv1.SettleItem_Spent{Spent: &tokenv1.Spent{MessageId: "m"}}
	}

	if r := settle(g.GetFence()+1, spent); r.GetStaleFence() == nil {
		t.Errorf("another fence: %v", r)
	}
	if r := settle(g.GetFence(), released); r.GetSettled() == nil {
		t.Errorf("released: %v", r)
	}
	w.eventually("stock:A", 1, 0, 0, 0, 0, 0, 0)
	g = w.grant(id, "s", "stock:A").GetGranted()
	if r := settle(g.GetFence(), spent); r.GetSettled() == nil {
		t.Errorf("spent: %v", r)
	}
	if r := settle(g.GetFence()-1, spent); r.GetAlready() == nil {
		t.Errorf("spent before: %v", r)
	}
	if r := settle(g.GetFence(), func(*tokenv1.SettleItem) {}); r.GetInvalid() == nil {
		t.Errorf("no outcome: %v", r)
	}
	s, err := w.js.Stream(t.Context(), topology.Outcomes)
	if err != nil || s.CachedInfo().State.Msgs != 2 {
		t.Errorf("OUTCOMES holds %d facts, want 2 (%v)", s.CachedInfo().State.Msgs, err)
	}
}

func TestWhatPeopleSayTagsThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.publish(topology.EventSubject(page, "1", "postback"), "pb-1", []byte(`{"sender":{"id":"1"},"timestamp":1782900000000,"postback":{"payload":"LIKES:white-wine"}}`), "1", "postback")
	testkit.Eventually(t, "the person is tagged", func() bool {
		p, err := w.client.GetPerson(t.Context(), &tokenv1.GetPersonRequest{PageId: page, Psid: "1"})
		return err == nil && slices.Equal(p.GetPerson().GetTags(), []string{"white-wine"}) && p.GetPerson().GetLastInteractionAt() != nil
	})
	// Said once more: known, so no further fact. Another one after it shows that it was read.
	for n, likes := range []string{"white-wine", "red-wine"} {
		w.publish(topology.EventSubject(page, "1", "postback"), fmt.Sprint("again-", n), fmt.Appendf(nil, `{"sender":{"id":"1"},"timestamp":1782900000000,"postback":{"payload":"LIKES:%s"}}`, likes), "1", "postback")
		testkit.Eventually(t, "the event is read", func() bool {
			p, err := w.client.GetPerson(t.Context(), &tokenv1.GetPersonRequest{PageId: page, Psid: "1"})
			return err == nil && slices.Contains(p.GetPerson().GetTags(), likes)
		})
	}
	if people, err := w.js.Stream(t.Context(), topology.People); err != nil || people.CachedInfo().State.Msgs != 2 {
		t.Errorf("PEOPLE holds %d facts, want 2 (%v)", people.CachedInfo().State.Msgs, err)
	}
	resp, err := w.client.TagPerson(t.Context(), &tokenv1.TagPersonRequest{PageId: page, Psid: "1", Add: []string{"vip"}, Remove: []string{"white-wine", "red-wine"}})
	if err != nil || !slices.Equal(resp.GetPerson().GetTags(), []string{"vip"}) {
		t.Errorf("TagPerson = %v, %v", resp, err)
	}
	if _, err := w.client.GetPerson(t.Context(), &tokenv1.GetPersonRequest{PageId: page, Psid: "nobody"}); status.Code(err) != codes.NotFound {
		t.Errorf("GetPerson of nobody: %v", err)
	}
}

// Redis is emptied, while the service runs and while it does not: nothing is granted before all is as it was.
func TestAnEmptiedRedisIsRebuilt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := w.start()
	waiting, spent, tried, released, void := w.optin("1", "t1", "stock:A"), w.optin("2", "t2", "stock:A"), w.optin("3", "t3", "stock:A"), w.optin("4", "t4", "stock:A"), w.optin("5", "t5", "stock:A")
	stopped := w.optin("6", "t6", "stock:A")
	w.eventually("stock:A", 6, 0, 0, 0, 0, 0, 0)
	for _, id := range []string{spent, tried, released, void} {
		g := w.grant(id, "s-"+id, "stock:A").GetGranted()
		tries, err := proto.Marshal(&outcomev1.Tries{PageId: page, At: timestamppb.Now(), Tries: []*outcomev1.Try{{PermissionId: id, SendId: "s-" + id, Fence: g.GetFence(), Attempt: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		w.publish(topology.TriesSubject(page), "", tries, "", "")
		o := &outcomev1.Outcome{PermissionId: id, SendId: "s-" + id, Fence: g.GetFence(), Final: true}
		switch id {
		case spent:
			o.Verdict = "sent"
		case released:
			o.Verdict, o.Released = "condition_gone", true
		case void:
			o.Verdict = "token_invalid"
		default:
			o.Verdict = "unclear"
		}
		w.outcome(o)
	}
	if _, err := w.client.StopPerson(t.Context(), &tokenv1.StopPersonRequest{PageId: page, Psid: "6"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.TagPerson(t.Context(), &tokenv1.TagPersonRequest{PageId: page, Psid: "1", Add: []string{"vip"}}); err != nil {
		t.Fatal(err)
	}
	same := func(when string) {
		t.Helper()
		w.eventually("stock:A", 2, 0, 1, 1, 0, 1, 1)
		if r := w.grant(tried, "another", "stock:A"); r.GetDenied().GetReason() != tokenv1.DenialReason_DENIAL_REASON_LEASED {
			t.Errorf("%s: a try without outcome is granted to another send: %v", when, r)
		}
		if r := w.grant(spent, "another", "stock:A"); r.GetDenied().GetReason() != tokenv1.DenialReason_DENIAL_REASON_ALREADY_SPENT {
			t.Errorf("%s: spent: %v", when, r)
		}
		if r := w.grant(stopped, "another", "stock:A"); r.GetDenied().GetReason() != tokenv1.DenialReason_DENIAL_REASON_PERSON_STOPPED {
			t.Errorf("%s: stopped: %v", when, r)
		}
		p, err := w.client.GetPerson(t.Context(), &tokenv1.GetPersonRequest{PageId: page, Psid: "1"})
		if err != nil || !slices.Equal(p.GetPerson().GetTags(), []string{"vip"}) {
			t.Errorf("%s: person %v, %v", when, p, err)
		}
	}
	same("before")
	flush := func() {
		if err := w.rdb.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	flush()
	// Whoever asks in between is told to come again, or, when the rebuild was faster, what was true before; never that
	// there is no such permission.
	resp, err := w.client.Grant(t.Context(), &tokenv1.GrantRequest{Items: []*tokenv1.GrantItem{{PageId: page, PermissionId: waiting, SendId: "x", Topic: "stock:B"}}})
	switch {
	case status.Code(err) == codes.Unavailable:
		if len(status.Convert(err).Details()) == 0 {
			t.Errorf("UNAVAILABLE without RetryInfo: %v", err)
		}
	case err != nil || resp.GetResults()[0].GetDenied().GetReason() != tokenv1.DenialReason_DENIAL_REASON_TOPIC_MISMATCH:
		t.Errorf("grant after the loss: %v, %v", resp, err)
	}
	same("emptied while running")
	stop()
	flush()
	w.start()
	same("emptied while stopped")
}

// Redis falls back to what it held before: the outcome that it has lost is applied again at the next start.
func TestARedisThatWentBackIsCaughtUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := w.start()
	id := w.optin("1", "token-1", "stock:A")
	w.eventually("stock:A", 1, 0, 0, 0, 0, 0, 0)
	dump, err := w.rdb.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	old := map[string]string{}
	for _, key := range dump {
		if old[key], err = w.rdb.Dump(t.Context(), key).Result(); err != nil {
			t.Fatal(err)
		}
	}
	g := w.grant(id, "s", "stock:A").GetGranted()
	w.outcome(&outcomev1.Outcome{PermissionId: id, SendId: "s", Fence: g.GetFence(), Verdict: "sent", MessageId: "m", Final: true})
	w.eventually("stock:A", 0, 0, 0, 1, 0, 0, 0)
	stop()
	for key, value := range old {
		if err := w.rdb.RestoreReplace(t.Context(), key, 0, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	w.start()
	w.eventually("stock:A", 0, 0, 0, 1, 0, 0, 0)
}

// Tokens that nobody can open any more are sealed anew from the streams.
func TestAnotherSealKeyMakesTheIndexAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := w.start()
	id := w.optin("1", "token-1", "stock:A")
	w.eventually("stock:A", 1, 0, 0, 0, 0, 0, 0)
	stop()
	w.sealKey = base64.StdEncoding.EncodeToString([]byte("another key of thirty-two bytes!"))
	w.start()
	w.eventually("stock:A", 1, 0, 0, 0, 0, 0, 0)
	if g := w.grant(id, "s", "stock:A").GetGranted(); g.GetRecipientToken() != "token-1" {
		t.Errorf("granted %v", g)
	}
}
