// Package grants asks the token service for the right to use permissions, a pack at a time.
package grants

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/onebell/onebell/pkg/fault"
	sendv1 "github.com/onebell/onebell/proto/onebell/send/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
)

// timeout bounds one call. Within it gRPC waits for a connection; a token service that restarts is back by then.
const timeout = 5 * time.Second

// Client is the window of the token service.
type Client struct {
	service tokenv1.TokenServiceClient
}

// New makes a client over a connection.
func New(conn *grpc.ClientConn) *Client { return &Client{tokenv1.NewTokenServiceClient(conn)} }

// Grant asks for all sends of a pack in one call. The results are in the order of the sends. The error is a fault that says
// when to come again, or Invalid when the pack can never be granted.
func (c *Client) Grant(ctx context.Context, pageID string, sends []*sendv1.Send, lease time.Duration) ([]*tokenv1.GrantResult, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req := &tokenv1.GrantRequest{}
	for _, s := range sends {
		req.Items = append(req.Items, &tokenv1.GrantItem{
			PageId: pageID, PermissionId: s.GetPermissionId(), SendId: s.GetSendId(), Topic: s.GetTopic(), Lease: durationpb.New(lease),
		})
	}
	res, err := c.service.Grant(ctx, req)
	if err != nil {
		return nil, refused(err)
	}
	if len(res.GetResults()) != len(sends) {
		return nil, fault.Later(10*time.Second, "grant", fmt.Errorf("grant: %d results for %d items", len(res.GetResults()), len(sends)))
	}
	return res.GetResults(), nil
}

func refused(err error) error {
	st := status.Convert(err)
	err = fmt.Errorf("grant: %w", err)
	switch st.Code() {
	case codes.InvalidArgument:
		return fault.New(fault.Invalid, "bad_grant", err)
	case codes.Unauthenticated, codes.PermissionDenied:
		return fault.Later(30*time.Second, "door", err) // a person has to give us another token
	}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok && info.GetRetryDelay().AsDuration() > 0 {
			return fault.Later(min(info.GetRetryDelay().AsDuration(), time.Minute), "token_away", err)
		}
	}
	return fault.Later(3*time.Second, "token_away", err)
}
