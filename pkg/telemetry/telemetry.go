// Package telemetry sets up the one way to look inside: slog on stderr with the same few keys everywhere, Prometheus
// metrics for the admin listener, and traces (OTLP, where OTEL_EXPORTER_OTLP_ENDPOINT says so).
// Keys: service, page, person, shard, permission, send, alert, verdict, reason, err, took. Never the text of a message,
// a token or a secret.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/runtime"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"

	"github.com/onebell/onebell/pkg/config"
)

// Settings of telemetry; the standard OTEL_… variables are read by the SDK itself.
type Settings struct {
	LogLevel  slog.Level `env:"ONEBELL_LOG_LEVEL" envDefault:"info" help:"debug, info, warn or error"`
	LogFormat Format     `env:"ONEBELL_LOG_FORMAT" envDefault:"json" help:"json or text"`
}

// Format is how log lines are written.
type Format string

// UnmarshalText reads json or text.
func (f *Format) UnmarshalText(text []byte) error {
	if *f = Format(text); *f != "json" && *f != "text" {
		return &config.Expected{What: "json or text"}
	}
	return nil
}

// Logger writes to w.
func Logger(s Settings, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: s.LogLevel, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration { // "1.5s" in both formats; JSON would count nanoseconds
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}}
	if s.LogFormat == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// Start sets the global tracer and meter providers and the propagator. The function it returns flushes and ends them.
func Start(ctx context.Context, program, version string) (stop func(context.Context) error, err error) {
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	res, err := resource.Merge(resource.Default(), resource.NewSchemaless(semconv.ServiceName(program), semconv.ServiceVersion(version)))
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	exporter, err := prometheus.New()
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	meters := metric.NewMeterProvider(metric.WithReader(exporter), metric.WithResource(res))
	otel.SetMeterProvider(meters)
	if err := runtime.Start(); err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}

	options := []trace.TracerProviderOption{trace.WithResource(res)}
	if wantsOTLP(os.Environ()) {
		spans, err := otlptracegrpc.New(ctx)
		if err != nil {
			return nil, fmt.Errorf("telemetry: %w", err)
		}
		options = append(options, trace.WithBatcher(spans))
	}
	// Without an exporter spans are made all the same: the trace id crosses the streams and stands in log lines.
	traces := trace.NewTracerProvider(options...)
	otel.SetTracerProvider(traces)
	return func(ctx context.Context) error {
		return errors.Join(traces.Shutdown(ctx), meters.Shutdown(ctx))
	}, nil
}

func wantsOTLP(environ []string) bool {
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		if value != "" && (name == "OTEL_EXPORTER_OTLP_ENDPOINT" || name == "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
			return true
		}
	}
	return false
}
