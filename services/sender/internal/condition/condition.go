// Package condition is the rule that judges a send again just before the call: does what it promises still hold?
// It fetches nothing.
package condition

import (
	"math/big"

	inventoryv1 "github.com/onebell/onebell/proto/onebell/inventory/v1"
	sendv1 "github.com/onebell/onebell/proto/onebell/send/v1"
)

// Asks tells whether a condition needs the state of a product at all.
func Asks(c *sendv1.Condition) bool {
	return c.GetMinAvailable() > 0 || c.GetMaxPrice() != nil || c.GetStartsAt() != nil
}

// Holds judges against the known state, nil when there is none. The reason says what no longer holds.
func Holds(c *sendv1.Condition, state *inventoryv1.ProductState) (bool, string) {
	switch {
	case !Asks(c):
		return true, ""
	case state == nil:
		return false, "nothing is known of the product"
	case c.GetMinAvailable() > state.GetStock().GetAvailable():
		return false, "fewer units than promised"
	case c.GetMaxPrice() != nil && !atMost(state.GetPrice(), c.GetMaxPrice()):
		return false, "dearer than promised"
	case c.GetStartsAt() != nil && !c.GetStartsAt().AsTime().Equal(state.GetSale().GetStartsAt().AsTime()):
		return false, "the sale was moved"
	}
	return true, ""
}

// atMost compares decimal amounts exactly, in one currency only.
func atMost(now *inventoryv1.PriceState, limit *inventoryv1.Price) bool {
	a, ok1 := new(big.Rat).SetString(now.GetAmount())
	b, ok2 := new(big.Rat).SetString(limit.GetAmount())
	return ok1 && ok2 && now.GetCurrency() == limit.GetCurrency() && a.Cmp(b) <= 0
}
