package desk

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onebell/onebell/pkg/fault"
	"github.com/onebell/onebell/proto/ids"
	outcomev1 "github.com/onebell/onebell/proto/onebell/outcome/v1"
	sendv1 "github.com/onebell/onebell/proto/onebell/send/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/proto/verdict"
	"github.com/onebell/onebell/services/sender/internal/answer"
	"github.com/onebell/onebell/services/sender/internal/condition"
)

// job is one pack in work.
type job struct {
	p        *page
	stopping context.Context // says when the worker stops, beside the context of the work itself
	u        topology.Urgency
	pack     *sendv1.Pack
	cause    string
	since    time.Duration // how long the pack has been in the queue
	begun    time.Time
	taken    bool // its sends are noted as in work

	mu       sync.Mutex
	left     int // sends whose call has not begun
	verdicts map[string]int
	again    []returning
}

// returning is a send that comes again.
type returning struct {
	send  *sendv1.Send
	at    time.Time // not before; zero: at once
	tried bool      // a call was made: it comes again on its own
}

// task is a send that was granted.
type task struct {
	send  *sendv1.Send
	grant *tokenv1.Granted
	until time.Time // no call starts after
}

// mayBeSent: an earlier try of the send may have gone out.
func (t task) mayBeSent() bool {
	return t.grant.GetAgain() || t.grant.GetAfterUnknown() || t.send.GetUnclear() > 0
}

func newJob(stopping context.Context, p *page, u topology.Urgency, msg jetstream.Msg, pack *sendv1.Pack) *job {
	j := &job{p: p, stopping: stopping, u: u, pack: pack, begun: time.Now(), left: len(pack.GetSends()), verdicts: map[string]int{}}
	j.cause, j.since = cause(msg)
	return j
}

// run works a pack whose time has come. An error without outcome written: the pack comes again whole.
func (j *job) run(ctx context.Context) error {
	if err := j.mayWork(ctx); err != nil {
		return err
	}
	tasks, err := j.prepare(ctx)
	if err != nil {
		j.giveBack(ctx, tasks)
		return err
	}
	if err := j.callAll(ctx, tasks); err != nil {
		return err
	}
	return j.settle(ctx)
}

// prepare does what comes before the calls. With an error it gives the tasks that still hold a grant.
func (j *job) prepare(ctx context.Context) ([]task, error) {
	tasks, err := j.grant(ctx)
	if err != nil {
		return tasks, err
	}
	if tasks, err = j.judge(ctx, tasks); err != nil || len(tasks) == 0 {
		return tasks, err
	}
	// A grant is named by its send and fence: another round of the same pack has another first grant.
	id := fmt.Sprintf("%s:%d:%s", tasks[0].send.GetSendId(), tasks[0].grant.GetFence(), j.cause)
	return tasks, j.p.Ledger.Tries(ctx, j.tries(tasks), id)
}

// giveBack releases, as far as that can be done now, the grants of a pack that comes again whole: the next grant would
// look like a repeat after a crash otherwise, and an invalid token like a message that was sent before.
func (j *job) giveBack(ctx context.Context, tasks []task) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var all sync.WaitGroup
	for _, t := range tasks {
		all.Go(func() {
			if err := j.release(ctx, t, verdict.Throttled, "nothing was called", false); err != nil {
				j.p.Log.Debug("grant not given back", "page", j.p.id, "send", t.send.GetSendId(), "err", err)
			}
		})
	}
	all.Wait()
}

// mayWork puts the pack off untouched while the page stands still. Only the pack that a pull was already waiting for gets
// here, the others stay in the queue: a short time is enough, and does not outlast the stop by much.
func (j *job) mayWork(ctx context.Context) error {
	if wait := time.Until(j.p.away.until()); wait > 0 {
		return fault.Later(wait, "away", errors.New("the Send API cannot be reached"))
	}
	const short = 5 * time.Second
	state, err := j.p.pacer.State(ctx)
	switch {
	case err != nil:
		return fault.Later(2*time.Second, "redis_away", err)
	case state.Refused:
		return fault.Later(short, verdict.PageRefused, errors.New("the page is refused"))
	case state.Stopped():
		return fault.Later(max(min(time.Until(state.Until), short), 10*time.Millisecond), verdict.Throttled, errors.New("the page is throttled"))
	}
	return nil
}

// grant asks for all sends at once and deals with those refused.
func (j *job) grant(ctx context.Context) ([]task, error) {
	sends, err := j.usable(ctx)
	if err != nil || len(sends) == 0 {
		return nil, err
	}
	// 60 s: a second or two of the pace, one call, and room for a slow platform. A page slower than one call in 15 s needs more.
	lease := min(max(time.Minute, 4*j.p.pacer.Spacing()), 10*time.Minute)
	asked := time.Now()
	results, err := j.p.Grants.Grant(ctx, j.p.id, sends, lease)
	if err != nil {
		j.p.hold(fault.Of(err).After)
		return nil, err
	}
	var tasks []task
	for i, r := range results {
		if g := r.GetGranted(); g != nil {
			tasks = append(tasks, task{sends[i], g, asked.Add(lease - j.p.CallLimit)})
		}
	}
	for i, r := range results {
		if r.GetGranted() != nil {
			continue
		}
		if err := j.denied(ctx, sends[i], r.GetDenied().GetReason()); err != nil {
			return tasks, err
		}
	}
	if len(tasks) == 0 && len(j.again) == len(j.pack.GetSends()) {
		// Nothing was touched: the pack waits as it is.
		wait := time.Until(j.again[0].at)
		if j.verdicts[verdict.PagePaused] > 0 {
			j.p.hold(wait)
		}
		return nil, fault.Later(max(wait, time.Second), "refused_for_now", errors.New("no permission of the pack can be had now"))
	}
	return tasks, nil
}

// usable are the sends that have what a call needs, each once; the others are given up.
func (j *job) usable(ctx context.Context) ([]*sendv1.Send, error) {
	var sends []*sendv1.Send
	seen := map[string]bool{}
	for _, s := range j.pack.GetSends() {
		if seen[s.GetSendId()] {
			continue // twice in one pack is once
		}
		seen[s.GetSendId()] = s.GetSendId() != ""
		if _, ok := ids.PermissionShard(s.GetPermissionId()); ok && s.GetSendId() != "" && s.GetMessage().GetText() != "" {
			sends = append(sends, s)
			continue
		}
		j.count("bad_send", 1)
		if err := j.p.Ledger.Dead(ctx, j.p.id, j.u, s, 0, 0, "bad_send", "the send lacks an id or a text", j.cause); err != nil {
			return nil, err
		}
	}
	return sends, nil
}

// denied deals with a send that must not be made now.
func (j *job) denied(ctx context.Context, s *sendv1.Send, reason tokenv1.DenialReason) error {
	d := answer.Denied(reason, j.since, rand.Float64()) // jitter
	j.dropped(d.Reason)
	if !d.Final {
		j.returns(s, time.Now().Add(d.After), false)
		return nil
	}
	if d.Dead {
		if err := j.p.Ledger.Dead(ctx, j.p.id, j.u, s, 0, 0, d.Reason, "grant refused: "+reason.String(), j.cause); err != nil {
			return err
		}
	}
	if d.Verdict == "" {
		return nil
	}
	o := j.outcome(s, d.Verdict, d.Reason)
	o.Final = true
	return j.p.Ledger.Outcome(ctx, o)
}

// judge looks at what each send promises; those whose promise no longer holds give their grant back. With an error it
// gives all that still hold theirs.
func (j *job) judge(ctx context.Context, tasks []task) ([]task, error) {
	var kept []task
	for i, t := range tasks {
		holds, why, err := j.holds(ctx, t.send)
		if err != nil {
			return append(kept, tasks[i:]...), fault.Later(3*time.Second, "products_away", err)
		}
		if holds {
			kept = append(kept, t)
			continue
		}
		if err := j.release(ctx, t, verdict.ConditionGone, why, true); err != nil {
			return append(kept, tasks[i:]...), err
		}
	}
	return kept, nil
}

func (j *job) holds(ctx context.Context, s *sendv1.Send) (bool, string, error) {
	c := s.GetCondition()
	if !condition.Asks(c) {
		return true, "", nil
	}
	state, err := j.p.Products.State(ctx, c.GetShop(), c.GetSku())
	if err != nil {
		return false, "", err
	}
	if holds, _ := condition.Holds(c, state); holds {
		return true, "", nil
	}
	if state, err = j.p.Products.Fresh(ctx, c.GetShop(), c.GetSku()); err != nil {
		return false, "", err
	}
	holds, why := condition.Holds(c, state)
	return holds, why, nil
}

func (j *job) tries(tasks []task) *outcomev1.Tries {
	tries := &outcomev1.Tries{PageId: j.p.id, At: timestamppb.Now()}
	for _, t := range tasks {
		tries.Tries = append(tries.Tries, &outcomev1.Try{
			PermissionId: t.send.GetPermissionId(), SendId: t.send.GetSendId(), AlertId: t.send.GetAlertId(),
			Fence: t.grant.GetFence(), Attempt: t.send.GetAttempts() + 1,
		})
	}
	return tries
}

// release gives back the grant of a send that was not called.
func (j *job) release(ctx context.Context, t task, v, reason string, final bool) error {
	o := j.outcome(t.send, v, reason)
	o.Psid, o.Fence, o.Final, o.Released = t.grant.GetPsid(), t.grant.GetFence(), final, true
	j.count(v, 1)
	return j.p.Ledger.Outcome(ctx, o)
}

func (j *job) outcome(s *sendv1.Send, v, reason string) *outcomev1.Outcome {
	return &outcomev1.Outcome{
		PageId: j.p.id, PermissionId: s.GetPermissionId(), Topic: s.GetTopic(), AlertId: s.GetAlertId(), SendId: s.GetSendId(),
		Verdict: v, Reason: reason, At: timestamppb.Now(),
	}
}

func (j *job) returns(s *sendv1.Send, at time.Time, tried bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.again = append(j.again, returning{s, at, tried})
}

// settle puts back what comes again: sends that were tried each on its own, the others together.
func (j *job) settle(ctx context.Context) error {
	together := map[time.Time][]*sendv1.Send{}
	for _, r := range j.again {
		if !r.tried {
			together[r.at.Truncate(time.Second)] = append(together[r.at.Truncate(time.Second)], r.send)
			continue
		}
		if err := j.p.Ledger.Again(ctx, j.p.id, j.u, []*sendv1.Send{r.send}, r.at, j.cause); err != nil {
			return err
		}
	}
	for at, sends := range together {
		if err := j.p.Ledger.Again(ctx, j.p.id, j.u, sends, at.Add(time.Second), j.cause); err != nil {
			return err
		}
	}
	return nil
}

func (j *job) count(v string, n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.verdicts[v] += n
}

// called notes that one send no longer waits for its call.
func (j *job) called() {
	j.mu.Lock()
	j.left--
	j.mu.Unlock()
	j.p.called(j.u, 1)
}

func (j *job) waiting() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.left
}

// tell writes the one wide line of a pack.
func (j *job) tell(err error) {
	attrs := []any{"page", j.p.id, "urgency", j.u, "sends", len(j.pack.GetSends()), "took", time.Since(j.begun)}
	for v, n := range j.verdicts {
		attrs = append(attrs, v, n)
	}
	if n := len(j.again); n > 0 {
		attrs = append(attrs, "again", n)
	}
	if err != nil {
		j.p.Log.Debug("pack not worked", append(attrs, "reason", fault.Of(err).Reason)...)
		return
	}
	j.p.Log.Info("pack worked", attrs...)
}
