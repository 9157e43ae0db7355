// Package products reads the known state of products from the bucket PRODUCTS, and remembers each for at most a second.
// It writes nothing.
package products

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	inventoryv1 "github.com/onebell/onebell/proto/onebell/inventory/v1"
	"github.com/onebell/onebell/proto/topology"
)

// maxAge is how old a state may be when a send is judged by it.
const maxAge = time.Second

// Cache holds the states read within the last second. Safe for use from many goroutines.
type Cache struct {
	kv    jetstream.KeyValue
	mu    sync.Mutex
	known map[string]*entry
	swept time.Time
}

// entry is read once by the first who asks; the others wait for it.
type entry struct {
	ready chan struct{}
	at    time.Time
	state *inventoryv1.ProductState
	err   error
}

// New makes a cache over the bucket.
func New(kv jetstream.KeyValue) *Cache {
	return &Cache{kv: kv, known: map[string]*entry{}}
}

// State is the known state of a shop's sku, at most a second old, nil when there is none. An error means that it is not
// known whether there is one.
func (c *Cache) State(ctx context.Context, shop, sku string) (*inventoryv1.ProductState, error) {
	return c.since(ctx, topology.ProductKey(shop, sku), time.Now().Add(-maxAge))
}

// Fresh is State as it is now. An alert is made from a state that is younger than what State may remember: nobody is
// refused a message by what was known before.
func (c *Cache) Fresh(ctx context.Context, shop, sku string) (*inventoryv1.ProductState, error) {
	return c.since(ctx, topology.ProductKey(shop, sku), time.Now())
}

// since is the state as it was read at some time after the oldest that will do.
func (c *Cache) since(ctx context.Context, key string, oldest time.Time) (*inventoryv1.ProductState, error) {
	c.mu.Lock()
	c.sweep()
	e, ok := c.known[key]
	if !ok || e.at.Before(oldest) {
		e = &entry{ready: make(chan struct{}), at: time.Now()}
		c.known[key] = e
		c.mu.Unlock()
		// Not bound to the one who asks: others wait for the same answer.
		read, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		e.state, e.err = c.read(read, key)
		close(e.ready)
		return e.state, e.err
	}
	c.mu.Unlock()
	select {
	case <-e.ready:
		return e.state, e.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *Cache) read(ctx context.Context, key string) (*inventoryv1.ProductState, error) {
	found, err := c.kv.Get(ctx, key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read product %s: %w", key, err)
	}
	state := &inventoryv1.ProductState{}
	if err := proto.Unmarshal(found.Value(), state); err != nil {
		return nil, fmt.Errorf("product %s cannot be read: %w", key, err)
	}
	return state, nil
}

// sweep forgets old entries every ten seconds, so that the memory follows what is being sent.
func (c *Cache) sweep() {
	if time.Since(c.swept) < 10*time.Second {
		return
	}
	c.swept = time.Now()
	for key, e := range c.known {
		if time.Since(e.at) > 10*maxAge {
			delete(c.known, key)
		}
	}
}
