// Package lifecycle starts the parts of a program in order and stops them in reverse, within a time that was added up.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/onebell/onebell/pkg/admin"
)

// Process is what a running program lends to its services.
type Process struct {
	Log     *slog.Logger
	Ready   *admin.Readiness
	Version string
}

// For is the process seen by one of its services: its log lines say which.
func (p *Process) For(service string) *Process {
	return &Process{Log: p.Log.With("service", service), Ready: p.Ready, Version: p.Version}
}

// Part is something that runs until its context ends, finishes what it has begun, and returns.
// Returning before that, even without an error, stops the program.
type Part struct {
	Name string
	Run  func(ctx context.Context) error
}

// Run starts the parts in order and waits. When ctx ends or a part returns, it stops them in reverse order, one after
// the other, each with up to `limit` to finish. The error is that of the part that failed first.
func Run(ctx context.Context, limit time.Duration, parts ...Part) error {
	type running struct {
		name string
		stop context.CancelFunc
		done chan error
	}
	ended := make(chan error, len(parts))
	var started []running
	for _, part := range parts {
		own, stop := context.WithCancel(context.WithoutCancel(ctx))
		r := running{part.Name, stop, make(chan error, 1)}
		go func() {
			err := part.Run(own)
			if own.Err() == nil {
				if err == nil {
					err = errors.New("ended by itself")
				}
				ended <- fmt.Errorf("%s: %w", part.Name, err)
			}
			r.done <- err
		}()
		started = append(started, r)
	}
	var first error
	select {
	case <-ctx.Done():
	case first = <-ended:
	}
	for _, r := range slices.Backward(started) {
		r.stop()
		select {
		case err := <-r.done:
			if err != nil && first == nil && !errors.Is(err, context.Canceled) {
				first = fmt.Errorf("%s: %w", r.name, err)
			}
		case <-time.After(limit):
			if first == nil {
				first = fmt.Errorf("%s: did not finish within %s", r.name, limit)
			}
		}
	}
	return first
}
