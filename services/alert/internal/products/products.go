// Package products keeps the last known state of each shop and sku in the bucket PRODUCTS. It decides nothing.
package products

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/onebell/onebell/pkg/fault"
	inventoryv1 "github.com/onebell/onebell/proto/onebell/inventory/v1"
	"github.com/onebell/onebell/proto/topology"
)

// Store is the bucket.
type Store struct{ KV jetstream.KeyValue }

// Get is what is known of a sku, nil when nothing is. A replica may answer that is a moment behind.
func (s Store) Get(ctx context.Context, shop, sku string) (*inventoryv1.ProductState, error) {
	state, _, err := s.get(ctx, topology.ProductKey(shop, sku))
	return state, err
}

func (s Store) get(ctx context.Context, key string) (*inventoryv1.ProductState, uint64, error) {
	entry, err := s.KV.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read product: %w", err)
	}
	state := &inventoryv1.ProductState{}
	if err := proto.Unmarshal(entry.Value(), state); err != nil {
		return nil, 0, fmt.Errorf("read product %s: %w", key, err)
	}
	return state, entry.Revision(), nil
}

// looks is how often a state is looked at again when somebody else was faster. Events of one sku are worked one after the
// other, so a second look is rare and a third is a race of several services that began at once.
const looks = 8

// Change replaces the state by what next makes of it, provided that nobody else has changed it meanwhile; else next is asked
// again with the newer state. When next says that nothing changes, nothing is written.
func (s Store) Change(ctx context.Context, shop, sku string, next func(*inventoryv1.ProductState) (*inventoryv1.ProductState, bool)) error {
	key := topology.ProductKey(shop, sku)
	for range looks {
		known, revision, err := s.get(ctx, key)
		if err != nil {
			return err
		}
		state, changed := next(known)
		if !changed {
			return nil
		}
		err = s.put(ctx, key, state, revision)
		if err == nil {
			return nil
		}
		if !errors.Is(err, jetstream.ErrKeyExists) && !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return fmt.Errorf("write product: %w", err)
		}
	}
	return fault.New(fault.Conflict, "busy_product", fmt.Errorf("write product: somebody else was faster %d times", looks))
}

func (s Store) put(ctx context.Context, key string, state *inventoryv1.ProductState, revision uint64) error {
	value, err := proto.Marshal(state)
	if err != nil {
		return err
	}
	if revision == 0 {
		_, err = s.KV.Create(ctx, key, value)
	} else {
		_, err = s.KV.Update(ctx, key, value, revision)
	}
	return err
}
