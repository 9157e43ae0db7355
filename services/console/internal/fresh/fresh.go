// Package fresh keeps an answer for a while, so that many readers cost one question. It asks only when somebody reads.
package fresh

import (
	"context"
	"sync"
	"time"
)

// Answer is a question and its last answer, or last failure: a service that is away is not asked by every reader.
type Answer[T any] struct {
	keep, limit time.Duration
	ask         func(context.Context) (T, error)

	mu    sync.Mutex
	at    time.Time
	value T
	err   error
}

// New makes an answer that is kept for `keep`; the question has `limit` to be answered.
func New[T any](keep, limit time.Duration, ask func(context.Context) (T, error)) *Answer[T] {
	return &Answer[T]{keep: keep, limit: limit, ask: ask}
}

// Get is the answer, at most `keep` old. Readers who come while it is asked wait for the same answer, whichever of them
// goes away.
func (a *Answer[T]) Get(ctx context.Context) (T, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.at.IsZero() || time.Since(a.at) >= a.keep {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.limit)
		defer cancel()
		a.value, a.err = a.ask(ctx)
		a.at = time.Now()
	}
	return a.value, a.err
}
