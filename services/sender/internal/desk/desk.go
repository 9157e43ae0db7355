// Package desk works the packs of sends: for each page takes them from SENDS, asks for the grants, judges again, writes the
// tries, makes the calls at the page's pace, writes what became of each, and only then acknowledges. What an answer means is
// decided in package answer.
package desk

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	sendv1 "github.com/onebell/onebell/proto/onebell/send/v1"
	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/services/sender/internal/grants"
	"github.com/onebell/onebell/services/sender/internal/graph"
	"github.com/onebell/onebell/services/sender/internal/ledger"
	"github.com/onebell/onebell/services/sender/internal/pace"
	"github.com/onebell/onebell/services/sender/internal/products"
)

// Desk has what the work of all pages needs.
type Desk struct {
	JS       jetstream.JetStream
	Pages    func() pages.File
	Grants   *grants.Client
	Products *products.Cache
	Graph    *graph.Client
	Pace     *pace.Store
	Ledger   *ledger.Ledger
	Log      *slog.Logger
	// CallLimit bounds one call; a call starts only while its lease lasts longer.
	CallLimit time.Duration
	// AckWait: a pack whose worker was killed comes again after this. While a pack is worked, the server is told four times
	// as often: three in a row may be lost.
	AckWait time.Duration

	away away

	mu      sync.Mutex
	working map[string]*page
	inWork  map[string]bool // ids of the sends that are in work here
}

// Run works the packs of every page of pages.yaml, and follows the file, until ctx ends; then it finishes or releases what
// was taken.
func (d *Desk) Run(ctx context.Context) error {
	d.mu.Lock()
	d.working, d.inWork = map[string]*page{}, map[string]bool{}
	d.mu.Unlock()
	var all sync.WaitGroup
	defer all.Wait()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	measure := time.NewTicker(10 * time.Second)
	defer measure.Stop()
	ends := map[string]context.CancelFunc{}
	for {
		d.follow(ctx, &all, ends)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-measure.C:
			all.Go(func() { d.measure(ctx) })
		}
	}
}

// follow starts pages that are new, ends those that are gone, and tells the others their settings.
func (d *Desk) follow(ctx context.Context, all *sync.WaitGroup, ends map[string]context.CancelFunc) {
	file := d.Pages()
	d.mu.Lock()
	defer d.mu.Unlock()
	wanted := make(map[string]bool, len(file.Pages))
	for _, settings := range file.Pages {
		wanted[settings.ID] = true
		if p, ok := d.working[settings.ID]; ok {
			p.set(settings)
			continue
		}
		p := newPage(d, settings)
		d.working[settings.ID] = p
		own, end := context.WithCancel(ctx)
		ends[settings.ID] = end
		all.Go(func() { p.run(own) })
	}
	for id, end := range ends {
		if !wanted[id] {
			d.Log.Info("page no longer worked: it left pages.yaml", "page", id)
			end()
			delete(ends, id)
			delete(d.working, id)
		}
	}
}

func (d *Desk) page(id string) (*page, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, ok := d.working[id]
	return p, ok
}

// take notes that sends are in work; false when one of them is already. They are kept for all pages together: a page that
// left pages.yaml and came back has packs of its earlier life in work.
func (d *Desk) take(sends []*sendv1.Send) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range sends {
		if d.inWork[s.GetSendId()] {
			return false
		}
	}
	for _, s := range sends {
		d.inWork[s.GetSendId()] = true
	}
	return true
}

func (d *Desk) leave(sends []*sendv1.Send) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range sends {
		delete(d.inWork, s.GetSendId())
	}
}

func (d *Desk) all() []*page {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]*page, 0, len(d.working))
	for _, p := range d.working {
		list = append(list, p)
	}
	return list
}

// Note says which pages stand still, for the readiness page; empty when all go.
func (d *Desk) Note() string {
	var parts []string
	for _, p := range d.all() {
		switch s := p.seen(); {
		case s.Refused:
			parts = append(parts, fmt.Sprintf("page %s is refused by the platform: it goes on when its access_token changed", p.id))
		case s.Stopped():
			parts = append(parts, fmt.Sprintf("page %s is throttled until %s", p.id, s.Until.UTC().Format(time.RFC3339)))
		}
	}
	if until := d.away.until(); time.Now().Before(until) {
		parts = append(parts, "the Send API cannot be reached from here")
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}

// away remembers, for this worker, that the platform cannot be reached: one call after each pause finds out, the others
// keep their grants free meanwhile.
type away struct {
	mu    sync.Mutex
	end   time.Time
	times int
}

func (a *away) until() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.end
}

// failed notes a call that did not reach the platform; true when that is news. Pauses are 1 s, doubling up to 30 s.
func (a *away) failed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Now().Before(a.end) {
		return false
	}
	a.end = time.Now().Add(min(30*time.Second, time.Second<<min(a.times, 5)))
	a.times++
	return a.times == 1
}

func (a *away) reached() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.end, a.times = time.Time{}, 0
}
