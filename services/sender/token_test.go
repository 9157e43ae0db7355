package sender

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	outcomev1 "github.com/onebell/onebell/proto/onebell/outcome/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/proto/verdict"
)

// tokenService grants as the contract says, as far as a sender can tell; it follows OUTCOMES.
type tokenService struct {
	tokenv1.UnimplementedTokenServiceServer
	addr string
	mu   sync.Mutex
	all  map[string]*permission
}

type permission struct {
	token, psid, holder string
	state               byte // w, g, u, s, v
	fence               uint64
}

func newTokenService(t *testing.T, js jetstream.JetStream) *tokenService {
	t.Helper()
	s := &tokenService{all: map[string]*permission{}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	srv := grpc.NewServer()
	tokenv1.RegisterTokenServiceServer(srv, s)
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(srv.Stop)
	cons, err := js.OrderedConsumer(t.Context(), topology.Outcomes, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	follow, err := cons.Consume(func(msg jetstream.Msg) { s.apply(readOutcome(t, msg.Data())) }, jetstream.PullHeartbeat(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(follow.Stop)
	return s
}

func (s *tokenService) know(id, psid, token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[id] = &permission{token: token, psid: psid, state: 'w'}
}

func (s *tokenService) state(id string) byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[id].state
}

func (s *tokenService) apply(o *outcomev1.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.all[o.GetPermissionId()]
	switch effect := verdict.Effects[o.GetVerdict()]; {
	case p == nil || p.state == 's':
	case effect == verdict.Spends:
		p.state = 's'
	case effect == verdict.Voids:
		p.state = 'v'
	case effect == verdict.Clouds && o.GetFence() == p.fence:
		p.state = 'u'
	case effect == verdict.Releases && o.GetReleased() && o.GetFence() == p.fence:
		p.state = 'w'
	}
}

func (s *tokenService) Grant(_ context.Context, req *tokenv1.GrantRequest) (*tokenv1.GrantResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &tokenv1.GrantResponse{}
	for _, item := range req.GetItems() {
		r := &tokenv1.GrantResult{PermissionId: item.GetPermissionId(), SendId: item.GetSendId()}
		res.Results = append(res.Results, r)
		deny := func(reason tokenv1.DenialReason) {
			r.Result = &tokenv1.GrantResult_Denied{Denied: &tokenv1.Denied{Reason: reason}}
		}
		p := s.all[item.GetPermissionId()]
		switch {
		case p == nil:
			deny(tokenv1.DenialReason_DENIAL_REASON_UNKNOWN_PERMISSION)
		case p.state == 's':
			deny(tokenv1.DenialReason_DENIAL_REASON_ALREADY_SPENT)
		case p.state == 'v':
			deny(tokenv1.DenialReason_DENIAL_REASON_REVOKED)
		case p.state != 'w' && p.holder != item.GetSendId():
			deny(tokenv1.DenialReason_DENIAL_REASON_LEASED)
		default:
			g := &tokenv1.Granted{
				RecipientToken: p.token, Psid: p.psid, Again: p.state != 'w', AfterUnknown: p.state == 'u',
				ExpiresAt: timestamppb.New(time.Now().Add(item.GetLease().AsDuration())),
			}
			p.state, p.holder = 'g', item.GetSendId()
			p.fence++
			g.Fence = p.fence
			r.Result = &tokenv1.GrantResult_Granted{Granted: g}
		}
	}
	return res, nil
}
