package desk

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/onebell/onebell/pkg/stream"
	sendv1 "github.com/onebell/onebell/proto/onebell/send/v1"
	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/sender/internal/pace"
)

const (
	// minCalls is how many calls of a page may always be under way, however slow its pace.
	minCalls = 64
	// maxPending bounds the packs of a page that are out or put off, a person out of reach for a day among them: at the limit
	// the page stands until one comes back. Measured with 190,000 put off: 70 MB of the server's memory, and another pack
	// takes 0.8 ms in place of 0.6.
	maxPending = 200000
	// idle is how long one pull waits for a pack, with a sign of life from the server every 2 s: a pull that was lost with a
	// connection is noticed within 4 s.
	idle      = 20 * time.Second
	heartbeat = 2 * time.Second
)

var urgencies = []topology.Urgency{topology.Urgent, topology.Normal}

// page works the packs of one page.
type page struct {
	*Desk
	id       string
	settings atomic.Pointer[settings]
	pacer    *pace.Pacer
	calls    gate // calls under way, bounded

	mu       sync.Mutex
	uncalled map[topology.Urgency]int // sends taken whose call has not begun
	packs    int
	held     time.Time // nothing is taken before
	changed  chan struct{}
	state    pace.State // last seen
	perPack  float64    // sends in a pack, a moving average
}

// settings are those of the page as of now.
type settings struct {
	pages.Page
	fingerprint string
}

func newPage(d *Desk, s pages.Page) *page {
	p := &page{
		Desk: d, id: s.ID, pacer: pace.NewPacer(d.Pace, s.ID, "text", d.Log),
		uncalled: map[topology.Urgency]int{}, changed: make(chan struct{}),
		perPack: min(64, max(1, s.SendsPerSecond)),
	}
	p.set(s)
	return p
}

func (p *page) set(s pages.Page) {
	now := &settings{s, pace.Fingerprint(s.AccessToken.Reveal())}
	p.settings.Store(now)
	p.pacer.Set(s.SendsPerSecond, now.fingerprint)
	p.calls.set(maxCalls(s.SendsPerSecond))
}

// maxCalls bounds the calls under way by three seconds of the pace: enough for answers that take that long; when they take
// longer, something is wrong.
func maxCalls(rate float64) int { return max(minCalls, int(3*rate)) }

// maxPacks bounds the packs in work, however small they are: with one send in each, a second of the pace waits and all calls
// that may be are under way.
func maxPacks(rate float64) int { return maxCalls(rate) + max(1, int(rate)) }

// run takes packs, urgent and normal ones apart, until ctx ends, and waits for those in work.
func (p *page) run(ctx context.Context) {
	var pulls sync.WaitGroup
	for _, u := range urgencies {
		pulls.Go(func() { p.pull(ctx, u) })
	}
	pulls.Wait()
}

// durable is the name of the consumer of a page and urgency.
func durable(pageID string, u topology.Urgency) string {
	return "sender-" + strings.NewReplacer("/", "_", `\`, "_").Replace(topology.SubjectToken(pageID)) + "-" + string(u)
}

func (p *page) consumer(ctx context.Context, u topology.Urgency) (cons jetstream.Consumer, err error) {
	err = stream.Until(ctx, p.Log, "the consumer of page "+p.id+" is not there yet", func(ctx context.Context) error {
		cons, err = p.JS.CreateOrUpdateConsumer(ctx, topology.Sends, jetstream.ConsumerConfig{
			Durable: durable(p.id, u), FilterSubject: topology.SendSubject(p.id, u), AckPolicy: jetstream.AckExplicitPolicy,
			AckWait: p.AckWait, MaxAckPending: maxPending, MaxDeliver: -1,
		})
		return err
	})
	return cons, err
}

// pull takes one pack at a time, when there is room for it: what waits, waits in the queue and not here.
func (p *page) pull(ctx context.Context, u topology.Urgency) {
	var packs sync.WaitGroup
	defer packs.Wait()
	cons, err := p.consumer(ctx, u)
	if err != nil {
		return // ctx ended before NATS was there
	}
	for p.welcome(ctx, u) {
		msg, err := next(ctx, cons)
		if err != nil {
			if ctx.Err() == nil {
				p.Log.Debug("pull", "page", p.id, "err", err)
				if cons, err = p.consumer(ctx, u); err != nil {
					return
				}
			}
			continue
		}
		if msg == nil {
			continue
		}
		pack := &sendv1.Pack{}
		bad := proto.Unmarshal(msg.Data(), pack)
		p.begin(u, len(pack.GetSends()))
		packs.Go(func() { p.work(ctx, u, msg, pack, bad) })
	}
}

// next waits for one message; nil when none came.
func next(ctx context.Context, cons jetstream.Consumer) (jetstream.Msg, error) {
	limited, cancel := context.WithTimeout(ctx, idle)
	defer cancel()
	batch, err := cons.Fetch(1, jetstream.FetchContext(limited), jetstream.FetchHeartbeat(heartbeat))
	if err != nil {
		return nil, err
	}
	if msg, ok := <-batch.Messages(); ok {
		return msg, nil
	}
	err = batch.Error()
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, jetstream.ErrNoMessages) {
		err = nil
	}
	return nil, err
}

// welcome waits until a pack may be taken: the page may send, nothing holds it, and less than a second of its pace waits
// here already. False when ctx ended.
func (p *page) welcome(ctx context.Context, u topology.Urgency) bool {
	for ctx.Err() == nil {
		wait, changed := p.room(u)
		if wait == 0 {
			if wait = p.standing(ctx); wait == 0 {
				return ctx.Err() == nil
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-changed:
		}
		timer.Stop()
	}
	return false
}

// room says how long there is surely no room for another pack, 0 when there is, and a channel that closes when that changed.
func (p *page) room(u topology.Urgency) (time.Duration, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := p.held
	if away := p.away.until(); away.After(held) {
		held = away
	}
	if wait := time.Until(held); wait > 0 {
		return wait, p.changed
	}
	waiting := p.uncalled[u]
	if u == topology.Normal {
		waiting += p.uncalled[topology.Urgent]
	}
	rate := p.settings.Load().SendsPerSecond
	if p.packs >= maxPacks(rate) || float64(waiting) >= max(1, rate) {
		return time.Minute, p.changed
	}
	return 0, nil
}

// standing says how long to wait before asking again whether the page may send; 0 when it may.
func (p *page) standing(ctx context.Context) time.Duration {
	state, err := p.pacer.State(ctx)
	if err != nil {
		if ctx.Err() == nil {
			p.Log.Warn("page waits", "page", p.id, "err", err)
		}
		return time.Second
	}
	p.see(state)
	if !state.Stopped() {
		return 0
	}
	// A second at most, so that a change made elsewhere (a new token, an operator) is seen.
	if left := time.Until(state.Until); !state.Refused && left < time.Second {
		return max(left, time.Millisecond)
	}
	return time.Second
}

func (p *page) see(s pace.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = s
}

func (p *page) seen() pace.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.state.Refused && time.Now().After(p.state.Until) {
		return pace.State{}
	}
	return p.state
}

func (p *page) begin(u topology.Urgency, sends int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.packs++
	p.uncalled[u] += sends
	p.perPack += (float64(sends) - p.perPack) / 16
}

// called notes that n sends no longer wait here.
func (p *page) called(u topology.Urgency, n int) {
	p.change(func() { p.uncalled[u] -= n })
}

func (p *page) end() { p.change(func() { p.packs-- }) }

// hold takes nothing for a while.
func (p *page) hold(d time.Duration) {
	p.change(func() {
		if until := time.Now().Add(d); until.After(p.held) {
			p.held = until
		}
	})
}

func (p *page) change(what func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	what()
	close(p.changed)
	p.changed = make(chan struct{})
}
