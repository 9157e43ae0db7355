// Package ask asks the token and the alert service. It changes nothing there.
package ask

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onebell/onebell/pkg/rpc"
	alertv1 "github.com/onebell/onebell/proto/onebell/alert/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
)

// storyLimit bounds a story: it is searched in the streams, which takes longer than a count.
const storyLimit = 10 * time.Second

// Services are the two services.
type Services struct {
	tokenConn, alertConn *grpc.ClientConn
	token                tokenv1.TokenServiceClient
	alert                alertv1.AlertServiceClient
}

// Dial makes the clients. It connects when they are first used.
func Dial(tokenAddr, alertAddr string, s rpc.ClientSettings) (*Services, error) {
	bearer, err := s.Token()
	if err != nil {
		return nil, err
	}
	token, err1 := rpc.Dial(tokenAddr, bearer, storyLimit)
	alert, err2 := rpc.Dial(alertAddr, bearer, storyLimit)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	return &Services{token, alert, tokenv1.NewTokenServiceClient(token), alertv1.NewAlertServiceClient(alert)}, nil
}

// Close ends the connections.
func (s *Services) Close() {
	_ = s.tokenConn.Close()
	_ = s.alertConn.Close()
}

// A service that is away is said to be so at once: a person is waiting.
var failFast = grpc.WaitForReady(false)

// Counts counts the permissions of pages by topic and state.
func (s *Services) Counts(ctx context.Context, pageIDs []string) (map[string][]*tokenv1.TopicCount, error) {
	counts := map[string][]*tokenv1.TopicCount{}
	for _, id := range pageIDs {
		got, err := s.token.Count(ctx, &tokenv1.CountRequest{PageId: id}, failFast)
		if err != nil {
			return nil, plain("token service", s.tokenConn.Target(), err)
		}
		counts[id] = got.GetCounts()
	}
	return counts, nil
}

// Story is what happened to a person, a permission or a send, oldest first.
func (s *Services) Story(ctx context.Context, req *alertv1.ExplainRequest) ([]*alertv1.Step, error) {
	ctx, cancel := context.WithTimeout(ctx, storyLimit)
	defer cancel()
	got, err := s.alert.Explain(ctx, req, failFast)
	if err != nil {
		return nil, plain("alert service", s.alertConn.Target(), err)
	}
	return got.GetSteps(), nil
}

// plain is an error of a call in words for the page, a sentence: what is wrong and where to look.
//
//nolint:staticcheck // people read it as it is, hence the capital
func plain(service, target string, err error) error {
	st := status.Convert(err)
	switch st.Code() {
	case codes.Unavailable:
		return fmt.Errorf("The %s at %s does not answer, or is not ready yet: see its /readyz", service, target)
	case codes.DeadlineExceeded:
		return fmt.Errorf("The %s at %s did not answer in time", service, target)
	case codes.Unauthenticated, codes.PermissionDenied:
		return fmt.Errorf("The %s at %s does not let the console in: see ONEBELL_API_TOKEN_FILE", service, target)
	case codes.Unimplemented:
		return fmt.Errorf("The %s at %s is of a version that cannot say this", service, target)
	}
	return fmt.Errorf("The %s at %s: %s", service, target, st.Message())
}
