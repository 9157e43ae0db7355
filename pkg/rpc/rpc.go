// Package rpc makes the gRPC servers and clients of all services alike: health, reflection, traces, identity, deadlines, and
// faults turned into canonical codes. It knows no method.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/onebell/onebell/pkg/door"
	"github.com/onebell/onebell/pkg/fault"
	"github.com/onebell/onebell/pkg/lifecycle"
)

// MaxMessage bounds a request and an answer: 4 MiB, gRPC's own default, said here because clients are told of it.
const MaxMessage = 4 << 20

// Policy says which roles may call a method, by its full name ("/package.Service/Method") or a service's prefix ending
// in "/". A method that no entry covers is for admins only.
type Policy map[string][]door.Role

// NewServer makes a server with health (open to all) and reflection (any known identity).
func NewServer(d *door.Door, policy Policy, log *slog.Logger) *grpc.Server {
	g := guard{d, policy, log}
	srv := grpc.NewServer(
		grpc.StatsHandler(otelgrpc.NewServerHandler()),
		grpc.ChainUnaryInterceptor(g.unary), grpc.ChainStreamInterceptor(g.stream),
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)
	healthv1.RegisterHealthServer(srv, health.NewServer())
	reflection.RegisterV1(srv)
	return srv
}

// Serve is a part that serves gRPC on a listener and finishes open calls when it stops.
func Serve(name string, ln net.Listener, srv *grpc.Server) lifecycle.Part {
	return lifecycle.Part{Name: name, Run: func(ctx context.Context) error {
		failed := make(chan error, 1)
		go func() { failed <- srv.Serve(ln) }()
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
		}
		// Open calls get 10 s; streams that nobody reads are cut then.
		cut := time.AfterFunc(10*time.Second, srv.Stop)
		defer cut.Stop()
		srv.GracefulStop()
		return nil
	}}
}

// Dial makes a client. It connects when first used, and again whenever it must; calls wait for a connection until their
// deadline. token (may be empty) goes with every call as a bearer token. timeout bounds calls that have no deadline of their own.
func Dial(target, token string, timeout time.Duration) (*grpc.ClientConn, error) {
	c := caller{token, timeout}
	return grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(MaxMessage)),
		grpc.WithChainUnaryInterceptor(c.unary), grpc.WithChainStreamInterceptor(c.stream),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		// gRPC's own back-off grows to two minutes: a service that was away long would stay so for its callers.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 250 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	)
}

// ClientSettings are those of a program that calls others.
type ClientSettings struct {
	TokenFile string `env:"ONEBELL_API_TOKEN_FILE" help:"file with the bearer token that this program shows at other services' doors"`
}

// Token reads the bearer token; empty when none is set.
func (s ClientSettings) Token() (string, error) {
	if s.TokenFile == "" {
		return "", nil
	}
	content, err := os.ReadFile(s.TokenFile)
	if err != nil {
		return "", fault.New(fault.Invalid, "bad_setting", fmt.Errorf("ONEBELL_API_TOKEN_FILE: %w", err))
	}
	return strings.TrimSpace(string(content)), nil
}

type caller struct {
	token   string
	timeout time.Duration
}

func (c caller) with(ctx context.Context) context.Context {
	if c.token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.token)
}

func (c caller) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if _, ok := ctx.Deadline(); !ok && c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	return invoke(c.with(ctx), method, req, reply, cc, opts...)
}

func (c caller) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return open(c.with(ctx), desc, cc, method, opts...)
}

type guard struct {
	door   *door.Door
	policy Policy
	log    *slog.Logger
}

func (g guard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (reply any, err error) {
	defer g.recover(info.FullMethod, &err)
	if err := g.admit(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	reply, err = handle(ctx, req)
	return reply, g.status(info.FullMethod, err)
}

func (g guard) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer g.recover(info.FullMethod, &err)
	if err := g.admit(ss.Context(), info.FullMethod); err != nil {
		return err
	}
	return g.status(info.FullMethod, handle(srv, ss))
}

func (g guard) admit(ctx context.Context, method string) error {
	if g.door == nil || strings.HasPrefix(method, "/grpc.health.") {
		return nil
	}
	allowed, ok := g.policy[method]
	if !ok {
		allowed = g.policy[method[:strings.LastIndex(method, "/")+1]]
	}
	if strings.HasPrefix(method, "/grpc.reflection.") {
		allowed = []door.Role{door.Publisher, door.Caller, door.Operator}
	}
	var header string
	if values := metadata.ValueFromIncomingContext(ctx, "authorization"); len(values) == 1 {
		header = values[0]
	}
	err := g.door.Admit(header, allowed)
	switch {
	case err == nil:
		return nil
	case fault.Of(err).Reason == door.Unauthenticated:
		return status.Error(codes.Unauthenticated, err.Error())
	}
	return status.Error(codes.PermissionDenied, err.Error())
}

// status turns a fault into what an outsider sees. Internal errors are logged and answered without their text.
func (g guard) status(method string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	switch {
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, "the caller went away")
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "not finished in time: try again, or ask for less at once")
	}
	f := fault.Of(err)
	if f.Kind == fault.Internal {
		g.log.Error("call failed", "method", method, "err", err)
		return status.Error(codes.Internal, "internal error: see the log of the service")
	}
	st := status.New(f.Kind.Code(), err.Error())
	if f.After > 0 {
		if detailed, derr := st.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(f.After)}); derr == nil {
			st = detailed
		}
	}
	return st.Err()
}

// Violation is a field of a request that cannot be used.
type Violation struct{ Field, Description string }

// BadRequest is INVALID_ARGUMENT with field violations.
func BadRequest(violations ...Violation) error {
	details := &errdetails.BadRequest{}
	texts := make([]string, 0, len(violations))
	for _, v := range violations {
		details.FieldViolations = append(details.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: v.Field, Description: v.Description})
		texts = append(texts, v.Field+": "+v.Description)
	}
	st := status.New(codes.InvalidArgument, strings.Join(texts, "; "))
	if detailed, err := st.WithDetails(details); err == nil {
		st = detailed
	}
	return st.Err()
}

func (g guard) recover(method string, err *error) {
	if p := recover(); p != nil {
		g.log.Error("panic in a call", "method", method, "panic", p, "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, "internal error: see the log of the service")
	}
}
