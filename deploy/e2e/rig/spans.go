package rig

import (
	"context"
	"encoding/hex"
	"net"
	"slices"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
)

// Spans takes traces over OTLP, as a collector does.
type Spans struct {
	collector.UnimplementedTraceServiceServer

	addr string
	mu   sync.Mutex
	all  []*tracev1.Span
}

// NewSpans starts a receiver.
func NewSpans(t testing.TB) *Spans {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Spans{addr: ln.Addr().String()}
	srv := grpc.NewServer()
	collector.RegisterTraceServiceServer(srv, s)
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(srv.Stop)
	return s
}

// Settings point a program's traces here, without waiting for large batches.
func (s *Spans) Settings() map[string]string {
	return map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "http://" + s.addr, "OTEL_EXPORTER_OTLP_INSECURE": "true", "OTEL_BSP_SCHEDULE_DELAY": "100",
	}
}

// Export takes spans.
func (s *Spans) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range req.GetResourceSpans() {
		for _, scope := range r.GetScopeSpans() {
			s.all = append(s.all, scope.GetSpans()...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// Find are the spans so far that a condition holds for.
func (s *Spans) Find(holds func(*tracev1.Span) bool) []*tracev1.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.all), func(span *tracev1.Span) bool { return !holds(span) })
}

// Attribute is the text of a span's attribute; empty when it has none.
func Attribute(span *tracev1.Span, name string) string {
	for _, a := range span.GetAttributes() {
		if a.GetKey() == name {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

// TraceID is the id of a span's trace in hex.
func TraceID(span *tracev1.Span) string { return hex.EncodeToString(span.GetTraceId()) }
