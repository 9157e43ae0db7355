package e2e_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/onebell/onebell/deploy/e2e/rig"
	inventoryv1 "github.com/onebell/onebell/proto/onebell/inventory/v1"
)

// Who is told of a new price: those whose target is met, and of those without a target who is offered a real drop.
func TestPrices(t *testing.T) {
	t.Parallel()
	graph := rig.NewGraph(t)
	m := rig.NewMachine(t, rig.Options{Graph: graph})
	price := func(eventID, sku, amount, was string) {
		m.PublishNATS("inventory.price."+sku, fmt.Sprintf(`{"event_id":%q,"shop":%q,"sku":%q,"price":{"amount":%q,"currency":"EUR","was":%q},%s}`,
			eventID, page.Shop, sku, amount, was, rig.Product(sku)), nil)
	}
	m.Tap(page, "met", rig.Token("met"), "price:COAT?below=49.90%20EUR")
	m.Tap(page, "unmet", rig.Token("unmet"), "price:COAT?below=40%20EUR")
	m.Tap(page, "dollars", rig.Token("dollars"), "price:COAT?below=60%20USD")
	m.Tap(page, "anyone", rig.Token("anyone"), "price:COAT")
	m.Tap(page, "patient", rig.Token("patient"), "price:HAT")
	m.Tap(page, "modest", rig.Token("modest"), "price:HAT?below=99%20EUR")
	price("erp-1", "COAT", "49.90", "64.90") // a quarter less
	price("erp-2", "HAT", "98.00", "100.00") // 2 % less, and 5 % is asked by the rules

	graph.Await(3)
	m.Quiet()
	want := map[string]string{
		"met": "sent", "unmet": "wish_price", "dollars": "wish_currency", "anyone": "sent", "patient": "wish_price", "modest": "sent",
	}
	for psid, verdict := range want {
		if got := m.Verdicts(page, psid, rig.Token(psid)); !slices.Equal(got, []string{verdict}) {
			t.Errorf("%s: verdicts %v, expected %s", psid, got, verdict)
		}
		if n := len(graph.Of(rig.Token(psid))); (n == 1) != (verdict == "sent") {
			t.Errorf("%s: %d messages with verdict %s", psid, n, verdict)
		}
	}
	if got := graph.Of(rig.Token("met"))[0].Text(); got != "The COAT now costs 49.90 EUR." {
		t.Errorf("words: %q", got)
	}

	price("erp-3", "COAT", "39.00", "") // less than the price known from the event before
	graph.Await(4)
	if n := len(graph.Of(rig.Token("unmet"))); n != 1 {
		t.Errorf("%d messages to the person whose target is met now", n)
	}
}

// A sale is announced ahead; its message goes out at that moment.
func TestSaleAtItsTime(t *testing.T) {
	t.Parallel()
	graph := rig.NewGraph(t)
	m := rig.NewMachine(t, rig.Options{Graph: graph})
	m.Tap(page, "anna", rig.Token("anna"), "sale:TICKET-7")
	starts := time.Now().Add(3 * time.Second).UTC()
	m.Publish(fmt.Sprintf(`{"event_id":"box-1","shop":%q,"sku":"TICKET-7","sale":{"starts_at":%q},%s}`,
		page.Shop, starts.Format(time.RFC3339Nano), rig.Product("TICKET-7")))
	at := graph.Await(1)[0].At
	// A second late is the promise of no contract, but more than that on a machine that is busy with tests is a mistake of a timer.
	if late := at.Sub(starts); late < 0 || late > 3*time.Second {
		t.Errorf("sent %s after the start of the sale", late)
	}
}

// Who asked for five is not told of three, and goes on waiting.
func TestWishedQuantity(t *testing.T) {
	t.Parallel()
	graph := rig.NewGraph(t)
	m := rig.NewMachine(t, rig.Options{Graph: graph})
	m.Tap(page, "five", rig.Token("five"), "stock:RIESLING?qty=5")
	m.Tap(page, "one", rig.Token("one"), "stock:RIESLING")
	m.Stock(page, "wms-1", "RIESLING", 3)
	graph.Await(1)
	m.Quiet()
	if calls := graph.Calls(); len(calls) != 1 || calls[0].Token() != rig.Token("one") {
		t.Fatalf("calls: %+v", calls)
	}
	if got := m.Verdicts(page, "five", rig.Token("five")); !slices.Equal(got, []string{"wish_quantity"}) {
		t.Errorf("verdicts: %v", got)
	}
	m.Stock(page, "wms-2", "RIESLING", 0)
	m.Stock(page, "wms-3", "RIESLING", 10)
	if got := graph.Await(2)[1]; got.Token() != rig.Token("five") {
		t.Errorf("second message to %s", got.Token())
	}
}

// Sold out again while the messages go out: whoever has not got one is not told, goes on waiting, and comes first next time.
func TestSoldOutMeanwhile(t *testing.T) {
	t.Parallel()
	const people = 80
	graph := rig.NewGraph(t)
	m := rig.NewMachine(t, rig.Options{Graph: graph, Pages: []rig.Page{page.At(20)}})
	m.Crowd(page, "guest", people, "stock:RIESLING")
	m.Stock(page, "wms-1", "RIESLING", 9)
	graph.Await(10)
	m.Stock(page, "wms-2", "RIESLING", 0)
	m.Quiet()
	told := len(graph.Calls())
	// Ten, and those of the second after which a changed state is known everywhere, with some for a busy machine.
	if told > 10+20+20 {
		t.Errorf("%d people were told, although it was sold out after 10", told)
	}
	rig.Eventually(t, "the others wait", func() bool {
		c := m.Count(page.ID, "stock:RIESLING")
		return c.GetSpent() == int64(told) && c.GetWaiting() == int64(people-told)
	})
	m.Stock(page, "wms-3", "RIESLING", 90)
	graph.Await(people)
	m.Quiet()
	if n := len(graph.Calls()); n != people {
		t.Errorf("%d calls for %d people", n, people)
	}
}

// The three doors for events are one: the same event by each of them is one alert.
func TestThreeDoorsOneMeaning(t *testing.T) {
	t.Parallel()
	graph := rig.NewGraph(t)
	m := rig.NewMachine(t, rig.Options{Graph: graph})
	doors := map[string]func(sku string){
		"NATS": func(sku string) {
			m.PublishNATS("inventory.stock."+sku, fmt.Sprintf(`{"eventId":"e-%s","shop":%q,"sku":%q,"stock":{"available":"2"},"weight":4,%s}`, sku, page.Shop, sku, rig.Product(sku)), nil)
		},
		"HTTP": func(sku string) {
			m.Publish(fmt.Sprintf(`[{"event_id":"e-%s","shop":%q,"sku":%q,"stock":{"available":2},%s}]`, sku, page.Shop, sku, rig.Product(sku)))
		},
		"GRPC": func(sku string) {
			err := m.PublishGRPC(&inventoryv1.Event{
				EventId: "e-" + sku, Shop: page.Shop, Sku: sku, What: &inventoryv1.Event_Stock{Stock: &inventoryv1.Stock{Available: 2}},
				Product: &inventoryv1.Product{Title: "The " + sku, Url: "https://shop.example/p/" + sku},
			})
			if err != nil {
				t.Fatal(err)
			}
		},
	}
	for door := range doors {
		m.Tap(page, "anna", rig.Token("first-"+door), "stock:BY-"+door)
	}
	for door, publish := range doors {
		publish("BY-" + door)
	}
	graph.Await(len(doors))
	for door := range doors {
		m.Tap(page, "ben", rig.Token("second-"+door), "stock:BY-"+door)
		for _, publish := range doors {
			publish("BY-" + door)
		}
	}
	m.Quiet()
	if n := len(graph.Calls()); n != len(doors) {
		t.Errorf("%d calls, expected one for each of %d events", n, len(doors))
	}
}
