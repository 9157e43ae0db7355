package messenger

import "sync"

// Hub tells watchers what changed, not how: names of things to look at again. A slow watcher gets each name once.
type Hub struct {
	mu       sync.Mutex
	watchers map[*Watcher]struct{}
}

// Watcher is somebody who looks on.
type Watcher struct {
	Wake    chan struct{}
	hub     *Hub
	changed map[string]struct{}
}

// Watch begins to look on; End ends it.
func (h *Hub) Watch() *Watcher {
	w := &Watcher{Wake: make(chan struct{}, 1), hub: h, changed: map[string]struct{}{}}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers == nil {
		h.watchers = map[*Watcher]struct{}{}
	}
	h.watchers[w] = struct{}{}
	return w
}

// End stops looking on.
func (w *Watcher) End() {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	delete(w.hub.watchers, w)
}

// Changed gives what changed since the last call.
func (w *Watcher) Changed() []string {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	names := make([]string, 0, len(w.changed))
	for name := range w.changed {
		names = append(names, name)
	}
	clear(w.changed)
	return names
}

// Tell says that things changed.
func (h *Hub) Tell(names ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		for _, name := range names {
			w.changed[name] = struct{}{}
		}
		select {
		case w.Wake <- struct{}{}:
		default:
		}
	}
}
