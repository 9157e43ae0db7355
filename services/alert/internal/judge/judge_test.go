package judge_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/onebell/onebell/proto/ids"
	inventoryv1 "github.com/onebell/onebell/proto/onebell/inventory/v1"
	"github.com/onebell/onebell/proto/rules"
	"github.com/onebell/onebell/services/alert/internal/judge"
)

var start = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// step is one event of a story and what must come of it.
type step struct {
	at     time.Duration // after start, when the stream took it
	event  string        // id; the same again is a repeat
	seq    int64         // the publisher's, 0: none
	what   any           // int64: stock; string "amount currency [was]": price; time.Duration: sale, after start
	reason judge.Reason
	due    time.Duration // of the alert; only looked at where the reason makes one
	force  bool          // whether an alert of this kind is in force afterwards
}

func makes(r judge.Reason) bool {
	return slices.Contains([]judge.Reason{judge.BackInStock, judge.PriceDropped, judge.SaleAnnounced, judge.SaleMoved}, r)
}

func event(s step, n int) judge.Event {
	e := &inventoryv1.Event{EventId: s.event, Sku: "RAD", Sequence: s.seq}
	switch w := s.what.(type) {
	case int64:
		e.What = &inventoryv1.Event_Stock{Stock: &inventoryv1.Stock{Available: w}}
	case int:
		e.What = &inventoryv1.Event_Stock{Stock: &inventoryv1.Stock{Available: int64(w)}}
	case string:
		p := &inventoryv1.Price{}
		_, _ = fmt.Sscan(w, &p.Amount, &p.Currency, &p.Was)
		e.What = &inventoryv1.Event_Price{Price: p}
	case time.Duration:
		e.What = &inventoryv1.Event_Sale{Sale: &inventoryv1.Sale{StartsAt: timestamppb.New(start.Add(w))}}
	}
	return judge.Event{Event: e, Shop: "s", Sequence: uint64(n + 1), Stored: start.Add(s.at)}
}

func TestStories(t *testing.T) {
	t.Parallel()
	const m = time.Minute
	for name, c := range map[string]struct {
		rule  *rules.Alert
		steps []step
	}{
		"a sku never seen counts as sold out": {&rules.Alert{MinAvailable: 1}, []step{
			{0, "1", 0, 80, judge.BackInStock, 0, true},
			{m, "2", 0, 90, judge.StillInStock, 0, true},
			{2 * m, "3", 0, 0, judge.SoldOut, 0, false},
			{3 * m, "4", 0, 0, judge.SoldOut, 0, false},
			{4 * m, "5", 0, 1, judge.BackInStock, 4 * m, true},
		}},
		"fewer than min_available is sold out": {&rules.Alert{MinAvailable: 5}, []step{
			{0, "1", 0, 4, judge.SoldOut, 0, false},
			{m, "2", 0, 5, judge.BackInStock, m, true},
			{2 * m, "3", 0, 4, judge.SoldOut, 0, false},
		}},
		"no rule, the state is kept all the same": {nil, []step{
			{0, "1", 0, 4, judge.NoRule, 0, false},
			{m, "2", 0, 4, judge.StillInStock, 0, false},
			{m, "3", 0, "5 EUR 6", judge.NoRule, 0, false},
			{m, "4", 0, m, judge.NoRule, 0, false},
		}},
		"a lower sequence comes late": {&rules.Alert{MinAvailable: 1}, []step{
			{0, "1", 10, 3, judge.BackInStock, 0, true},
			{m, "2", 9, 0, judge.Late, 0, true},
			{m, "3", 10, 4, judge.StillInStock, 0, true},
			{2 * m, "4", 0, 0, judge.SoldOut, 0, false},
			{3 * m, "5", 9, 7, judge.Late, 0, false},
			{3 * m, "6", 11, 7, judge.BackInStock, 3 * m, true},
		}},
		"without a sequence the time decides": {&rules.Alert{MinAvailable: 1}, []step{
			{m, "1", 0, 3, judge.BackInStock, m, true},
			{0, "2", 0, 0, judge.Late, 0, true},
			{m, "3", 0, 0, judge.SoldOut, 0, false},
		}},
		"a repeat by the publisher does nothing": {&rules.Alert{MinAvailable: 1}, []step{
			{0, "1", 0, 3, judge.BackInStock, 0, true},
			{m, "1", 0, 3, judge.Repeated, 0, true},
			{2 * m, "2", 0, 0, judge.SoldOut, 0, false},
			{3 * m, "1", 0, 3, judge.Repeated, 0, false},
		}},
		"one id for the stock and the price of a delivery": {&rules.Alert{MinAvailable: 1}, []step{
			{0, "1", 0, 3, judge.BackInStock, 0, true},
			{m, "1", 0, "50 EUR 60", judge.PriceDropped, m, true},
			{m, "1", 0, 60 * m, judge.SaleAnnounced, 60 * m, true},
			{m, "1", 0, 3, judge.Repeated, 0, true},
			{m, "1", 0, "40 EUR", judge.Repeated, 0, true},
			{m, "1", 0, 90 * m, judge.Repeated, 0, true},
		}},
		"hold and cool_down": {&rules.Alert{MinAvailable: 1, Hold: m, CoolDown: 15 * m}, []step{
			{0, "1", 0, 3, judge.BackInStock, m, true},
			{2 * m, "2", 0, 0, judge.SoldOut, 0, false},
			{3 * m, "3", 0, 3, judge.BackInStock, 16 * m, true}, // told at 1 min
			{4 * m, "4", 0, 0, judge.SoldOut, 0, false},         // taken back before its time
			{30 * m, "5", 0, 3, judge.BackInStock, 31 * m, true},
		}},
		"an alert taken back before its time starts no cool_down": {&rules.Alert{MinAvailable: 1, Hold: m, CoolDown: 15 * m}, []step{
			{0, "1", 0, 3, judge.BackInStock, m, true},
			{m / 2, "2", 0, 0, judge.SoldOut, 0, false},
			{2 * m, "3", 0, 3, judge.BackInStock, 3 * m, true},
		}},
		"a price needs an earlier one": {&rules.Alert{}, []step{
			{0, "1", 0, "60 EUR", judge.NoEarlierPrice, 0, false},
			{m, "2", 0, "49.90 EUR", judge.PriceDropped, m, true},
			{m, "3", 0, "49.9 EUR", judge.PriceSame, 0, true},
			{m, "4", 0, "49.90 EUR 64.90", judge.PriceSame, 0, true},
			{2 * m, "5", 0, "40 EUR", judge.PriceDropped, 2 * m, true},
			{3 * m, "6", 0, "49.90 EUR", judge.PriceRose, 0, false},
			{3 * m, "7", 0, "55 EUR 64.90", judge.PriceRose, 0, false},
		}},
		"was names the earlier price": {&rules.Alert{}, []step{
			{0, "1", 0, "49.90 EUR 64.90", judge.PriceDropped, 0, true},
		}},
		"was may say that nothing dropped": {&rules.Alert{}, []step{
			{0, "1", 0, "49.90 EUR 49.9", judge.PriceSame, 0, false},
			{0, "2", 0, "49.80 EUR 49.7", judge.PriceRose, 0, false},
		}},
		"currencies are never mixed": {&rules.Alert{}, []step{
			{0, "1", 0, "60 EUR", judge.NoEarlierPrice, 0, false},
			{m, "2", 0, "50 USD", judge.CurrencyChanged, 0, false},
			{m, "3", 0, "40 USD", judge.PriceDropped, m, true},
			{m, "4", 0, "90 JPY 100", judge.PriceDropped, m, true},
		}},
		"a sale is told at its time": {&rules.Alert{}, []step{
			{0, "1", 0, 60 * m, judge.SaleAnnounced, 60 * m, true},
			{m, "2", 0, 60 * m, judge.SaleSame, 0, true},
			{2 * m, "3", 0, 90 * m, judge.SaleMoved, 90 * m, true},
			{100 * m, "4", 0, 95 * m, judge.SaleMoved, 100 * m, true}, // its time has passed: at once
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var state *inventoryv1.ProductState
			for i, s := range c.steps {
				e := event(s, i)
				got := judge.Judge(e, state, c.rule)
				if got.Reason != s.reason {
					t.Fatalf("event %d: %s, want %s", i+1, got.Reason, s.reason)
				}
				if (got.Alert != nil) != makes(s.reason) {
					t.Fatalf("event %d: alert %v for %s", i+1, got.Alert, s.reason)
				}
				if got.Alert != nil && !got.Alert.GetDue().AsTime().Equal(start.Add(s.due)) {
					t.Errorf("event %d: due %s after the start, want %s", i+1, got.Alert.GetDue().AsTime().Sub(start), s.due)
				}
				state = got.State
				if force := inForce(state, e); force != s.force {
					t.Errorf("event %d: in force %v, want %v", i+1, force, s.force)
				}
			}
		})
	}
}

func inForce(state *inventoryv1.ProductState, e judge.Event) bool {
	id := map[bool]string{true: state.GetStock().GetAlertId()}[e.GetStock() != nil]
	if e.GetPrice() != nil {
		id = state.GetPrice().GetAlertId()
	}
	if e.GetSale() != nil {
		id = state.GetSale().GetAlertId()
	}
	return judge.InForce(state, id)
}

func TestAnAlertSaysWhatItIsAbout(t *testing.T) {
	t.Parallel()
	e := event(step{event: "p1", what: "49.90 EUR 64.90"}, 0)
	got := judge.Judge(e, nil, &rules.Alert{}).Alert
	if got.GetTopic() != "price:RAD" || got.GetAlertId() != ids.Alert("s", "price:RAD", "p1") || got.GetEventId() != "p1" || got.GetPrice().GetWas() != "64.90" {
		t.Errorf("alert: %v", got)
	}
}

func TestEmptyFieldsKeepWhatIsKnownOfTheProduct(t *testing.T) {
	t.Parallel()
	first := event(step{event: "1", what: 1}, 0)
	first.Product = &inventoryv1.Product{Title: "Rad shirt", Url: "https://x.example/1", Tags: []string{"shirts"}}
	second := event(step{event: "2", what: "5 EUR"}, 1)
	second.Product = &inventoryv1.Product{Title: "Rad shirt (M)"}
	state := judge.Judge(second, judge.Judge(first, nil, nil).State, nil).State
	want := &inventoryv1.Product{Title: "Rad shirt (M)", Url: "https://x.example/1", Tags: []string{"shirts"}}
	if !proto.Equal(state.GetProduct(), want) {
		t.Errorf("product %v, want %v", state.GetProduct(), want)
	}
}

func TestAnEventOfAStateWithoutKindsIsKnown(t *testing.T) {
	t.Parallel()
	state := &inventoryv1.ProductState{Applied: []*inventoryv1.AppliedEvent{{EventId: "1", Stored: 9}}}
	if got := judge.Judge(event(step{event: "1", what: 3}, 0), state, &rules.Alert{MinAvailable: 1}); got.Reason != judge.Repeated {
		t.Errorf("%s, want %s", got.Reason, judge.Repeated)
	}
}

// Whatever happens to a sku: the same message again makes the same alert again and changes nothing, an alert is only made of
// a way from sold out to in stock or of a drop, and the memory stays small.
func TestWhateverHappens(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rule := &rules.Alert{MinAvailable: rapid.Int64Range(1, 3).Draw(t, "least"), Hold: time.Second, CoolDown: time.Minute}
		var state *inventoryv1.ProductState
		for i := range rapid.IntRange(1, 80).Draw(t, "events") {
			s := step{
				at: time.Duration(i+rapid.IntRange(-3, 3).Draw(t, "jitter")) * time.Second, event: fmt.Sprint(i),
				seq: rapid.SampledFrom([]int64{0, int64(i), int64(max(i-2, 1))}).Draw(t, "sequence"),
			}
			if rapid.Bool().Draw(t, "stock") {
				s.what = rapid.Int64Range(0, 5).Draw(t, "available")
			} else {
				s.what = fmt.Sprintf("%d EUR", rapid.IntRange(1, 4).Draw(t, "price"))
			}
			e := event(s, i)
			before := proto.CloneOf(state)
			got := judge.Judge(e, state, rule)
			if !proto.Equal(before, state) {
				t.Fatal("the state handed in was changed")
			}
			if a := got.Alert; a != nil {
				if p := e.GetPrice(); p != nil && p.GetAmount() >= before.GetPrice().GetAmount() { // one digit each
					t.Fatalf("an alert of %s after %s", p.GetAmount(), before.GetPrice().GetAmount())
				}
				if st := e.GetStock(); st != nil && (st.GetAvailable() < rule.MinAvailable || before.GetStock().GetAvailable() >= rule.MinAvailable) {
					t.Fatalf("an alert of %d units after %d", st.GetAvailable(), before.GetStock().GetAvailable())
				}
				if a.GetDue().AsTime().Before(e.Stored.Add(rule.Hold)) || !judge.InForce(got.State, a.GetAlertId()) {
					t.Fatalf("alert %v is due too early or not in force", a)
				}
			}
			if got.Changed {
				again := judge.Judge(e, got.State, rule)
				if again.Changed || !proto.Equal(again.Alert, got.Alert) {
					t.Fatalf("delivered again: %v, want %v", again, got)
				}
			}
			if state = got.State; len(state.GetApplied()) > 32 {
				t.Fatalf("%d events remembered", len(state.GetApplied()))
			}
		}
	})
}
