package alert_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onebell/onebell/pkg/testkit"
	"github.com/onebell/onebell/proto/ids"
	alertv1 "github.com/onebell/onebell/proto/onebell/alert/v1"
	outcomev1 "github.com/onebell/onebell/proto/onebell/outcome/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/proto/verdict"
)

func TestARestockTellsThoseWhoWaitInTheirWords(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.crowd.add("stock:RAD", 1, []string{"white-wine"}, nil)
	h.crowd.add("stock:RAD", 3, nil, nil)
	h.crowd.add("stock:RAD", 1, nil, &tokenv1.Wish{Qty: 81})
	h.publish("stock", `"event_id":"e1","sku":"RAD","stock":{"available":80},`+rad)
	testkit.Eventually(t, "packs on the queue", func() bool { return h.count(topology.Sends) == 2 })
	h.settled()

	packs := h.packs()
	if n := len(packs[0].GetSends()); n != 3 { // a second of the page's pace
		t.Errorf("%d sends in the first pack, want 3", n)
	}
	sends := h.sends()
	want := "Rad shirt is back, and it goes well with oysters. 80 left.|Rad shirt is back in stock.|Rad shirt is back in stock.|Rad shirt is back in stock."
	if got := texts(sends); got != want {
		t.Errorf("texts %q, want %q", got, want)
	}
	alertID := ids.Alert(shop, "stock:RAD", "e1")
	first := sends[0]
	if first.GetAlertId() != alertID || first.GetSendId() != ids.Send(alertID, first.GetPermissionId()) || first.GetTopic() != "stock:RAD" {
		t.Errorf("send: %v", first)
	}
	if c := first.GetCondition(); c.GetMinAvailable() != 1 || c.GetShop() != shop || c.GetSku() != "RAD" {
		t.Errorf("condition: %v", c)
	}
	passed := h.outcomes()
	if len(passed) != 1 || passed[0].GetVerdict() != verdict.WishQuantity || !passed[0].GetFinal() || passed[0].GetPsid() == "" || passed[0].GetSendId() == "" {
		t.Errorf("passed over: %v", passed)
	}

	// More of it, and the same event again: nobody is told again.
	h.publish("stock", `"event_id":"e2","sku":"RAD","stock":{"available":90}`)
	h.publish("stock", `"event_id":"e1","sku":"RAD","stock":{"available":80}`)
	h.publish("stock", `"event_id":"bell","sku":"OTHER","stock":{"available":1}`)
	h.settled()
	if got := h.sends(); len(got) != 4 {
		t.Errorf("%d sends after a second restock without going out, want 4", len(got))
	}
	// Out and in again is another alert.
	h.publish("stock", `"event_id":"e3","sku":"RAD","stock":{"available":0}`)
	h.publish("stock", `"event_id":"e4","sku":"RAD","stock":{"available":1}`)
	testkit.Eventually(t, "sends of the second alert", func() bool { return len(h.sends()) == 8 })
}

func TestAnEventDeliveredAgainMakesTheSameSends(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.crowd.add("stock:RAD", 5, nil, nil)
	h.publish("stock", `"event_id":"e1","sku":"RAD","stock":{"available":80},`+rad)
	testkit.Eventually(t, "sends", func() bool { return len(h.sends()) == 5 })
	h.settled()
	h.stop()
	before := h.sends()

	// As after a kill between what is known and the waves: the event comes again, and no id is remembered by the server.
	for _, stream := range []string{topology.Sends, topology.Waves} {
		if err := h.js.DeleteStream(t.Context(), stream); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.js.DeleteConsumer(t.Context(), topology.Inventory, "alert"); err != nil {
		t.Fatal(err)
	}
	h.start()
	testkit.Eventually(t, "sends again", func() bool { return len(h.sends()) == 5 })
	for i, s := range h.sends() {
		if !proto.Equal(s, before[i]) {
			t.Errorf("send %d: %v, want %v", i, s, before[i])
		}
	}
}

func TestAPriceDropTellsThoseWhoseTargetIsMet(t *testing.T) {
	t.Parallel()
	h := open(t)
	below := func(amount, currency string) *tokenv1.Wish {
		return &tokenv1.Wish{Below: &tokenv1.Money{Amount: amount, Currency: currency}}
	}
	for _, wish := range []*tokenv1.Wish{nil, below("50", "EUR"), below("49.89", "EUR"), below("60", "USD")} {
		h.crowd.add("price:RAD", 1, nil, wish)
	}
	h.publish("price", `"event_id":"p1","sku":"RAD","price":{"amount":"64.90","currency":"EUR"},`+rad)
	h.publish("price", `"event_id":"p2","sku":"RAD","price":{"amount":"49.90","currency":"EUR"}`)
	testkit.Eventually(t, "sends", func() bool { return len(h.sends()) == 2 })
	h.settled()
	if got, want := texts(h.sends()), "Rad shirt now costs 49.90 EUR.|Rad shirt now costs 49.90 EUR."; got != want {
		t.Errorf("texts %q, want %q", got, want)
	}
	if got := h.sends()[0].GetCondition().GetMaxPrice(); got.GetAmount() != "49.90" {
		t.Errorf("condition of who named no target: %v", got)
	}
	if got := h.sends()[1].GetCondition().GetMaxPrice(); got.GetAmount() != "50" {
		t.Errorf("condition of who named a target: %v", got)
	}
	verdicts := map[string]int{}
	for _, o := range h.outcomes() {
		verdicts[o.GetVerdict()]++
	}
	if verdicts[verdict.WishPrice] != 1 || verdicts[verdict.WishCurrency] != 1 {
		t.Errorf("passed over: %v", verdicts)
	}
	h.publish("price", `"event_id":"p3","sku":"RAD","price":{"amount":"55","currency":"EUR"}`)
	h.settled()
	if got := len(h.sends()); got != 2 {
		t.Errorf("%d sends after a rise, want 2", got)
	}
}

func TestWavesAreSizedByTheStock(t *testing.T) {
	t.Parallel()
	h := open(t, "waves: {people_per_unit: 1.5, every: 1s}")
	h.crowd.add("stock:RAD", 2, nil, &tokenv1.Wish{Qty: 100})
	h.crowd.add("stock:RAD", 12, nil, nil)
	begun := time.Now()
	h.publish("stock", `"event_id":"e1","sku":"RAD","stock":{"available":3},`+rad)
	testkit.Eventually(t, "the first wave", func() bool { return len(h.sends()) >= 5 })
	if got := len(h.sends()); got != 5 { // 1.5 x 3, rounded up
		t.Errorf("%d people in the first wave, want 5", got)
	}
	h.publish("stock", `"event_id":"e2","sku":"RAD","stock":{"available":1}`)
	testkit.Eventually(t, "the second wave", func() bool { return len(h.sends()) >= 7 })
	if took := time.Since(begun); took < time.Second {
		t.Errorf("the second wave came after %s, want at least a second", took)
	}
	if got := len(h.sends()); got != 7 {
		t.Errorf("%d people after two waves, want 7: sized by what is left", got)
	}
	h.publish("stock", `"event_id":"e3","sku":"RAD","stock":{"available":0}`)
	h.settled() // the third wave is dropped
	if got := len(h.sends()); got != 7 {
		t.Errorf("%d people after the shirt sold out, want 7", got)
	}
}

func TestAHoldIsBrokenByASellOut(t *testing.T) {
	t.Parallel()
	h := open(t, "hold: 700ms")
	h.crowd.add("stock:RAD", 1, nil, nil)
	h.publish("stock", `"event_id":"e1","sku":"RAD","stock":{"available":3},`+rad)
	h.publish("stock", `"event_id":"e2","sku":"RAD","stock":{"available":0}`)
	testkit.Eventually(t, "the wave put off", func() bool { return h.count(topology.Waves) == 1 })
	h.settled()
	if got := h.sends(); len(got) != 0 {
		t.Errorf("%d sends of a stock that did not last", len(got))
	}
	stored := time.Now()
	h.publish("stock", `"event_id":"e3","sku":"RAD","stock":{"available":3}`)
	testkit.Eventually(t, "the stock lasts", func() bool { return len(h.sends()) == 1 })
	if took := time.Since(stored); took < 700*time.Millisecond {
		t.Errorf("told after %s, want the hold of 700ms", took)
	}
}

func TestAnAlertWaitsForTheOptinsBeforeIt(t *testing.T) {
	t.Parallel()
	h := open(t)
	// A token service that has not yet read the opt-in.
	if _, err := h.js.Publish(t.Context(), topology.OptinSubject(page, "p"), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	consumer, err := h.js.CreateConsumer(t.Context(), topology.Optins, jetstream.ConsumerConfig{Durable: "token", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	// Somebody else's reader, who never reads, holds up nobody.
	if _, err := h.js.CreateConsumer(t.Context(), topology.Optins, jetstream.ConsumerConfig{Durable: "somebody", AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	h.publish("stock", `"event_id":"e1","sku":"RAD","stock":{"available":3},`+rad)
	testkit.Eventually(t, "the wave", func() bool { return h.count(topology.Waves) == 1 })
	h.crowd.add("stock:RAD", 1, nil, nil)
	msg, err := consumer.Next()
	if err != nil {
		t.Fatal(err)
	}
	if n := h.count(topology.Sends); n != 0 {
		t.Errorf("%d packs before the opt-in was read", n)
	}
	if err := msg.Ack(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the send", func() bool { return len(h.sends()) == 1 })
}

func TestAShopWithoutPageIsNoError(t *testing.T) {
	t.Parallel()
	h := open(t)
	if _, err := h.js.Publish(t.Context(), "inventory.stock.X", []byte(`{"event_id":"e1","sku":"RAD","stock":{"available":3}}`)); err != nil {
		t.Fatal(err)
	}
	h.settled()
	if n := h.count(topology.Dead); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

func TestExplainTellsTheWholeStory(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.crowd.add("stock:RAD", 1, nil, &tokenv1.Wish{Qty: 5})
	mine := h.crowd.waiting["stock:RAD"][0]
	alertID := ids.Alert(shop, "stock:RAD", "e2")
	send := ids.Send(alertID, mine.GetPermissionId())
	other := ids.Permission(page, mine.GetPsid()+"x", "t")
	at := func(minute int) *timestamppb.Timestamp {
		return timestamppb.New(time.UnixMilli(1782900000000).Add(time.Duration(minute) * time.Minute))
	}
	put := func(subject string, body any) {
		t.Helper()
		msg := nats.NewMsg(subject)
		switch b := body.(type) {
		case string:
			msg.Data = []byte(b)
			msg.Header.Set(topology.HeaderPerson, mine.GetPsid())
			msg.Header.Set(topology.HeaderPage, page)
		case *outcomev1.Outcome:
			msg.Data, _ = json.Marshal(map[string]any{
				"page_id": page, "permission_id": b.GetPermissionId(), "psid": mine.GetPsid(), "send_id": b.GetSendId(), "verdict": b.GetVerdict(),
				"message_id": b.GetMessageId(), "at": b.GetAt().AsTime().Format(time.RFC3339Nano), "attempt": b.GetAttempt(), "topic": "stock:RAD", "alert_id": b.GetAlertId(),
			})
		case proto.Message:
			msg.Data, _ = proto.Marshal(b)
		}
		if _, err := h.js.PublishMsg(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
	shard := ids.Shard(mine.GetPsid())
	tap := fmt.Sprintf(`{"sender":{"id":%q},"recipient":{"id":%q},"timestamp":1782900000000,"optin":{"type":"one_time_notif_req","payload":"RAD","one_time_notif_token":%q}}`, mine.GetPsid(), page, mine.GetPsid())
	put(topology.OptinSubject(page, mine.GetPsid()), tap)
	put(topology.OptinSubject(page, mine.GetPsid()), tap) // the platform repeats itself
	put(topology.PersonSubject(page, mine.GetPsid()), &tokenv1.PersonFact{PageId: page, Psid: mine.GetPsid(), At: at(1), What: &tokenv1.PersonFact_Tagged{Tagged: &tokenv1.Tagged{Add: []string{"red"}}}})
	put(topology.OutcomeSubject(page, shard, verdict.WishQuantity), &outcomev1.Outcome{PermissionId: mine.GetPermissionId(), SendId: "s0", AlertId: "a0", Verdict: verdict.WishQuantity, At: at(2)})
	put(topology.TriesSubject(page), &outcomev1.Tries{PageId: page, At: at(3), Tries: []*outcomev1.Try{
		{PermissionId: other, SendId: "s9", Attempt: 1},
		{PermissionId: mine.GetPermissionId(), SendId: send, AlertId: alertID, Attempt: 1, Fence: 1},
	}})
	put(topology.OutcomeSubject(page, shard, verdict.Sent), &outcomev1.Outcome{PermissionId: mine.GetPermissionId(), SendId: send, Verdict: verdict.Sent, MessageId: "m1", Attempt: 1, At: at(4)})
	put(topology.EventSubject(page, mine.GetPsid(), "delivery"), `{"delivery":{"mids":["m1"]},"timestamp":1782900300000}`)
	put(topology.EventSubject(page, mine.GetPsid(), "read"), `{"read":{"watermark":1782900360000},"timestamp":1782900360000}`)
	put(topology.PersonSubject(page, mine.GetPsid()), &tokenv1.PersonFact{PageId: page, Psid: mine.GetPsid(), At: at(7), What: &tokenv1.PersonFact_Stopped{}})

	const whole = "OPTED_IN TAGGED PASSED_OVER CHOSEN GRANTED ATTEMPTED SETTLED DELIVERED READ STOPPED "
	for name, c := range map[string]struct {
		req  *alertv1.ExplainRequest
		want string
	}{
		"person":             {&alertv1.ExplainRequest{PageId: page, Subject: &alertv1.ExplainRequest_Psid{Psid: mine.GetPsid()}}, whole},
		"permission":         {&alertv1.ExplainRequest{PageId: page, Subject: &alertv1.ExplainRequest_PermissionId{PermissionId: mine.GetPermissionId()}}, "OPTED_IN PASSED_OVER CHOSEN GRANTED ATTEMPTED SETTLED DELIVERED READ STOPPED "},
		"send":               {&alertv1.ExplainRequest{PageId: page, Subject: &alertv1.ExplainRequest_SendId{SendId: send}}, "OPTED_IN CHOSEN GRANTED ATTEMPTED SETTLED DELIVERED READ STOPPED "},
		"send without tries": {&alertv1.ExplainRequest{PageId: page, Subject: &alertv1.ExplainRequest_SendId{SendId: "s0"}}, "OPTED_IN PASSED_OVER STOPPED "},
		"unknown person":     {&alertv1.ExplainRequest{PageId: page, Subject: &alertv1.ExplainRequest_Psid{Psid: "nobody"}}, ""},
		"unknown page":       {&alertv1.ExplainRequest{PageId: "1", Subject: &alertv1.ExplainRequest_Psid{Psid: mine.GetPsid()}}, ""},
		"unknown send":       {&alertv1.ExplainRequest{PageId: page, Subject: &alertv1.ExplainRequest_SendId{SendId: "s7"}}, ""},
		"no permission id":   {&alertv1.ExplainRequest{PageId: page, Subject: &alertv1.ExplainRequest_PermissionId{PermissionId: "nope"}}, ""},
	} {
		answer, err := h.client.Explain(t.Context(), c.req)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := ""
		for _, s := range answer.GetSteps() {
			got += s.GetKind().String()[len("STEP_KIND_"):] + " "
			if k := s.GetKind(); k != alertv1.StepKind_STEP_KIND_TAGGED && k != alertv1.StepKind_STEP_KIND_STOPPED && (s.GetTopic() != "stock:RAD" || s.GetPermissionId() != mine.GetPermissionId()) {
				t.Errorf("%s: step %v, want topic and permission", name, s)
			}
		}
		if got != c.want {
			t.Errorf("%s:\n%s, want\n%s", name, got, c.want)
		}
	}
	if _, err := h.client.Explain(t.Context(), &alertv1.ExplainRequest{}); violations(err) != "page_id subject" {
		t.Errorf("an empty request: %v", err)
	}
}
