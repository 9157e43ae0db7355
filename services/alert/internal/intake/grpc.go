package intake

import (
	"context"
	"fmt"
	"time"

	"github.com/onebell/onebell/pkg/fault"
	"github.com/onebell/onebell/pkg/rpc"
	alertv1 "github.com/onebell/onebell/proto/onebell/alert/v1"
	inventoryv1 "github.com/onebell/onebell/proto/onebell/inventory/v1"
	"github.com/onebell/onebell/services/alert/internal/event"
)

// maxEvents is how many events one call may bring.
const maxEvents = 10_000

// PublishEvents stores events; see alert.proto.
func (in Intake) PublishEvents(ctx context.Context, req *alertv1.PublishEventsRequest) (*alertv1.PublishEventsResponse, error) {
	if n := len(req.GetEvents()); n > maxEvents {
		return nil, rpc.BadRequest(rpc.Violation{Field: "events", Description: fmt.Sprintf("%d, expected at most %d", n, maxEvents)})
	}
	good := make([]*inventoryv1.Event, 0, len(req.GetEvents()))
	var violations []rpc.Violation
	now := time.Now()
	for i, e := range req.GetEvents() {
		if problem := event.Check(e, now); problem != nil {
			violations = append(violations, rpc.Violation{Field: problem.At(fmt.Sprintf("events[%d]", i)), Description: problem.Reason})
			continue
		}
		good = append(good, e)
	}
	refused.Add(ctx, int64(len(violations)), label("door", "grpc"))
	stored, err := in.store(ctx, good)
	if err != nil {
		in.Log.Warn("events refused, they cannot be stored", "events", len(good), "stored", stored, "err", err)
		return nil, fault.Later(time.Second, "not_stored", fmt.Errorf("%d events are not stored, call again with all of them: %w", len(good)-stored, err))
	}
	if len(violations) > 0 {
		return nil, rpc.BadRequest(violations...)
	}
	return &alertv1.PublishEventsResponse{Accepted: int64(stored)}, nil
}
