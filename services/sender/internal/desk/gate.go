package desk

import (
	"context"
	"sync"
)

// gate lets so many through at once, in the order they came. How many may change at any time.
type gate struct {
	mu     sync.Mutex
	width  int
	inside int
	queue  []chan struct{} // closed: it is your turn
}

// enter waits for a place. leave gives it back.
func (g *gate) enter(ctx context.Context) error {
	g.mu.Lock()
	turn := make(chan struct{})
	g.queue = append(g.queue, turn)
	g.admit()
	g.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, other := range g.queue {
		if other == turn {
			g.queue = append(g.queue[:i], g.queue[i+1:]...)
			return ctx.Err()
		}
	}
	return nil // admitted at the same moment
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	g.admit()
}

// set says how many may be inside. Nobody who is inside is sent away.
func (g *gate) set(width int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.width = width
	g.admit()
}

// admit lets in who has a place. The caller holds the lock.
func (g *gate) admit() {
	for len(g.queue) > 0 && g.inside < g.width {
		close(g.queue[0])
		g.queue = g.queue[1:]
		g.inside++
	}
}
