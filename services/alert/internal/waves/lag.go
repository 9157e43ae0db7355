package waves

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onebell/onebell/pkg/fault"
	"github.com/onebell/onebell/proto/topology"
)

const (
	// patience is how long an alert waits for the ledger after it was due: a backlog of opt-ins is read at thousands a second,
	// and a message about stock is worth less the later it comes.
	patience = time.Minute
	// look is how long one step waits at a time, so that it does not hold a worker.
	look = time.Second
)

// caughtUp waits until the opt-ins stored so far are in the ledger: somebody who tapped just before the event is among those
// who wait, also when the token service was away and reads a backlog.
func (d Desk) caughtUp(ctx context.Context, due time.Time) error {
	if time.Since(due) > patience {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, look)
	defer cancel()
	stream, err := d.JS.Stream(ctx, topology.Optins)
	if err != nil {
		return fmt.Errorf("look at the opt-ins: %w", err)
	}
	target := stream.CachedInfo().State.LastSeq
	for {
		behind, err := isBehind(ctx, stream, target)
		if err == nil && !behind {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("look at the opt-ins: %w", err)
		}
		select {
		case <-ctx.Done():
			return fault.Later(look/2, "optins_behind", errors.New("opt-ins wait to be read into the ledger"))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// isBehind tells whether the token service has not yet acknowledged all up to target. Others may read the opt-ins, too, as
// slowly as they like.
func isBehind(ctx context.Context, stream jetstream.Stream, target uint64) (bool, error) {
	reader, err := stream.Consumer(ctx, string(topology.Token))
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	info := reader.CachedInfo()
	return info.NumPending+uint64(info.NumAckPending) > 0 && info.AckFloor.Stream < target, nil
}
