package condition_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	inventoryv1 "github.com/onebell/onebell/proto/onebell/inventory/v1"
	sendv1 "github.com/onebell/onebell/proto/onebell/send/v1"
	"github.com/onebell/onebell/services/sender/internal/condition"
)

func TestHolds(t *testing.T) {
	t.Parallel()
	start := timestamppb.New(time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC))
	state := &inventoryv1.ProductState{
		Stock: &inventoryv1.StockState{Available: 3}, Price: &inventoryv1.PriceState{Amount: "49.90", Currency: "EUR"},
		Sale: &inventoryv1.SaleState{StartsAt: start},
	}
	price := func(amount, currency string) *sendv1.Condition {
		return &sendv1.Condition{Sku: "S", MaxPrice: &inventoryv1.Price{Amount: amount, Currency: currency}}
	}
	for _, c := range []struct {
		name  string
		asks  *sendv1.Condition
		state *inventoryv1.ProductState
		want  bool
	}{
		{"nothing asked", nil, nil, true},
		{"nothing asked of a product", &sendv1.Condition{Sku: "S"}, nil, true},
		{"no state", &sendv1.Condition{MinAvailable: 1}, nil, false},
		{"no stock known", &sendv1.Condition{MinAvailable: 1}, &inventoryv1.ProductState{}, false},
		{"enough", &sendv1.Condition{MinAvailable: 3}, state, true},
		{"too few", &sendv1.Condition{MinAvailable: 4}, state, false},
		{"the same price, written otherwise", price("49.9", "EUR"), state, true},
		{"cheaper than the limit", price("50", "EUR"), state, true},
		{"dearer", price("49.89", "EUR"), state, false},
		{"another currency", price("60", "USD"), state, false},
		{"no price known", price("60", "EUR"), &inventoryv1.ProductState{}, false},
		{"the sale as announced", &sendv1.Condition{StartsAt: start}, state, true},
		{"the sale was moved", &sendv1.Condition{StartsAt: timestamppb.New(start.AsTime().Add(time.Hour))}, state, false},
		{"no sale", &sendv1.Condition{StartsAt: start}, &inventoryv1.ProductState{}, false},
	} {
		if got, why := condition.Holds(c.asks, c.state); got != c.want || got == (why != "") {
			t.Errorf("%s: %v %q", c.name, got, why)
		}
	}
}
