package desk

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/proto/verdict"
	"github.com/onebell/onebell/services/sender/internal/answer"
	"github.com/onebell/onebell/services/sender/internal/pace"
)

// settled is how long a grant that was given back is left alone: by then the token service has applied the outcome, and a
// new grant is not taken for a repeat of the old one.
const settled = 2 * time.Second

// leeway is how much later than its slot a call may start at the quickest paces: a usual read of the product takes less.
const leeway = 20 * time.Millisecond

// callAll makes the calls of a pack, together and each at its turn.
func (j *job) callAll(ctx context.Context, tasks []task) error {
	var wg sync.WaitGroup
	errs := make([]error, len(tasks))
	for i, t := range tasks {
		wg.Go(func() { errs[i] = j.call(ctx, t) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// call waits for its turn, makes one call and writes what became of it.
func (j *job) call(ctx context.Context, t task) error {
	free, err := j.turn(t)
	j.called()
	for {
		if err != nil {
			return j.notCalled(ctx, t, err)
		}
		due := time.Now()
		if ends, err := j.drops(ctx, t); ends {
			free()
			return err
		}
		if time.Since(due) <= max(j.p.pacer.Spacing(), leeway) {
			break
		}
		// The product was read slowly. The slot is past: with others that waited for the same answer the call would be a
		// burst, and a throttle may have come meanwhile.
		free()
		free, err = j.turn(t)
	}
	settings := j.p.settings.Load()
	a := j.post(ctx, settings, t)
	free()
	return j.answered(ctx, settings, t, a)
}

// drops tells whether a send whose turn has come is not to be called now after all, and has dealt with it then.
func (j *job) drops(ctx context.Context, t task) (bool, error) {
	if wait := time.Until(j.p.away.until()); wait > 0 {
		return true, j.putBack(ctx, t, verdict.Throttled, "the Send API cannot be reached", wait)
	}
	// Judged at the last instant once more: the turn may have come seconds after the first look.
	holds, why, err := j.holds(ctx, t.send)
	if err != nil {
		return true, j.putBack(ctx, t, verdict.Throttled, "the state of the product cannot be read", 3*time.Second)
	}
	if !holds {
		return true, j.release(ctx, t, verdict.ConditionGone, why, true)
	}
	return false, nil
}

// turn waits for a free place among the calls under way and then for a slot of the pace.
func (j *job) turn(t task) (free func(), err error) {
	ctx, cancel := context.WithDeadline(j.stopping, t.until)
	defer cancel()
	if err := j.p.calls.enter(ctx); err != nil {
		return nil, err
	}
	free = sync.OnceFunc(j.p.calls.leave)
	begun := time.Now()
	err = j.p.pacer.Wait(ctx, j.u == topology.Urgent)
	metrics.waits.Record(ctx, time.Since(begun).Seconds(), pageAttr(j.p.id))
	if err == nil && time.Now().After(t.until) {
		err = context.DeadlineExceeded
	}
	if err != nil {
		free()
		return nil, err
	}
	return free, nil
}

// notCalled gives back a grant whose turn did not come.
func (j *job) notCalled(ctx context.Context, t task, err error) error {
	var stopped *pace.StoppedError
	switch {
	case errors.As(err, &stopped) && stopped.Refused:
		// The page's packs are not taken while it is refused: no time is needed.
		return j.putBack(ctx, t, verdict.PageRefused, "the page is refused", settled)
	case errors.As(err, &stopped):
		return j.putBack(ctx, t, verdict.Throttled, "the page is throttled", max(settled, time.Until(stopped.Until)))
	case j.stopping.Err() != nil:
		return j.putBack(ctx, t, verdict.Throttled, "the worker stopped before its turn", settled)
	}
	return j.putBack(ctx, t, verdict.Throttled, "its turn did not come within the lease", settled)
}

func (j *job) putBack(ctx context.Context, t task, v, reason string, after time.Duration) error {
	if err := j.release(ctx, t, v, reason, false); err != nil {
		return err
	}
	j.returns(t.send, time.Now().Add(after), false)
	return nil
}

func (j *job) post(ctx context.Context, s *settings, t task) answer.Answer {
	ctx, span := tracer.Start(ctx, "send", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("onebell.page", j.p.id), attribute.String("onebell.send", t.send.GetSendId()), attribute.String("onebell.alert", t.send.GetAlertId())))
	defer span.End()
	begun := time.Now()
	a := j.p.Graph.Send(ctx, s.Page, t.grant.GetRecipientToken(), t.send.GetSendId(), t.send.GetMessage())
	metrics.took.Record(ctx, time.Since(begun).Seconds(), pageAttr(j.p.id))
	span.SetAttributes(attribute.Int("http.response.status_code", a.Status), attribute.Int("onebell.code", a.Code))
	if a.Err != nil || a.Failed {
		span.SetStatus(codes.Error, "")
	}
	return a
}

// answered carries out what an answer means.
func (j *job) answered(ctx context.Context, s *settings, t task, a answer.Answer) error {
	attempt := t.send.GetAttempts() + 1
	d := answer.Judge(a, answer.History{
		Attempt: attempt, Unclear: t.send.GetUnclear(), Late: t.send.GetLate(), Unreached: t.send.GetUnreached(), MayBeSent: t.mayBeSent(),
	}, rand.Float64()) // jitter
	d.After = max(d.After, j.p.stop(ctx, s, d, a))
	j.count(d.Verdict, 1)
	metrics.answer(ctx, j.p.id, d.Verdict, a)
	j.p.Log.Debug("called", "page", j.p.id, "send", t.send.GetSendId(), "permission", t.send.GetPermissionId(), "alert", t.send.GetAlertId(),
		"verdict", d.Verdict, "reason", d.Reason, "attempt", attempt, "status", a.Status, "code", a.Code, "subcode", a.Subcode, "fbtrace_id", a.TraceID, "err", a.Err)

	next := proto.CloneOf(t.send)
	next.Attempts, next.Unclear, next.Late, next.Unreached = attempt, d.Unclear, d.Late, d.Unreached
	if d.Dead {
		detail := fmt.Sprintf("%s; status %d, code %d/%d, fbtrace_id %s, %v", d.Reason, a.Status, a.Code, a.Subcode, a.TraceID, a.Err)
		if err := j.p.Ledger.Dead(ctx, j.p.id, j.u, next, a.Code, a.Subcode, d.Verdict, detail, j.cause); err != nil {
			return err
		}
	}
	if err := j.write(ctx, t, a, d, attempt); err != nil {
		return err
	}
	if !d.Final {
		j.returns(next, time.Now().Add(d.After), true)
	}
	return nil
}

// write writes the outcome of a try.
func (j *job) write(ctx context.Context, t task, a answer.Answer, d answer.Decision, attempt int32) error {
	o := j.outcome(t.send, d.Verdict, d.Reason)
	o.Psid, o.Fence, o.Attempt = t.grant.GetPsid(), t.grant.GetFence(), attempt
	o.Code, o.Subcode, o.FbtraceId = int32(a.Code), int32(a.Subcode), a.TraceID // the platform's codes are small
	o.Final, o.Released = d.Final, d.Released
	if d.Verdict == verdict.Sent {
		o.MessageId = a.MessageID
	}
	if d.Parked {
		o.NotBefore = timestamppb.New(time.Now().Add(d.After))
	}
	if d.Verdict == verdict.GivenUp && d.Unclear > t.send.GetUnclear() {
		// The last try is as unclear as those before: that it stays so is said first.
		last := proto.CloneOf(o)
		last.Verdict, last.Final = verdict.Unclear, false
		if err := j.p.Ledger.Outcome(ctx, last); err != nil {
			return err
		}
	}
	return j.p.Ledger.Outcome(ctx, o)
}

// stop carries out what an answer stops, and gives for how long where that was not said.
func (p *page) stop(ctx context.Context, s *settings, d answer.Decision, a answer.Answer) time.Duration {
	if d.Stop != answer.StopAway && a.Transport != answer.Unreached {
		p.away.reached()
	}
	switch d.Stop {
	case answer.StopNothing:
	case answer.StopAway:
		if p.away.failed() {
			p.Log.Warn("the Send API cannot be reached: calls wait and come again", "page", p.id, "err", a.Err)
		}
	case answer.StopToken:
		p.Log.Error("page refused by the platform: no call until its access_token in pages.yaml changed",
			"page", p.id, "reason", d.Reason, "code", a.Code, "subcode", a.Subcode, "fbtrace_id", a.TraceID)
		p.refuse(ctx, s.fingerprint)
	case answer.StopPage:
		return p.throttle(ctx, []*page{p}, d, a)
	case answer.StopApp:
		all := []*page{p}
		for _, other := range p.Pages().SameApp(p.id) {
			if same, ok := p.page(other.ID); ok && same != p {
				all = append(all, same)
			}
		}
		return p.throttle(ctx, all, d, a)
	}
	return 0
}

// refuse stops the page here first, then everywhere.
func (p *page) refuse(ctx context.Context, fingerprint string) {
	state := pace.State{Refused: true}
	p.pacer.Hold(state, fingerprint)
	if fingerprint == p.settings.Load().fingerprint {
		p.see(state)
	}
	shared := p.insist(ctx, "refuse", func(ctx context.Context) error { return p.Pace.Refuse(ctx, p.id, fingerprint) })
	if shared && fingerprint == p.settings.Load().fingerprint {
		p.pacer.Learn(state)
	}
}

// together is how many pages of an app are written to Redis at the same time.
const together = 16

// throttle stops pages, the one that met the error first: all of them here at once, however slow Redis is, then everywhere.
// It gives for how long the first one stands.
func (p *page) throttle(ctx context.Context, all []*page, d answer.Decision, a answer.Answer) time.Duration {
	for _, each := range all {
		each.standStill(d.StopFor)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // for all of them: the outcome is still to be written
	defer cancel()
	waits := make([]time.Duration, len(all))
	places := make(chan struct{}, together)
	var writes sync.WaitGroup
	for i, each := range all {
		places <- struct{}{}
		writes.Go(func() {
			defer func() { <-places }()
			waits[i] = each.share(ctx, d.StopFor)
			p.Log.Warn("page throttled by the platform", "page", each.id, "wait", waits[i], "code", a.Code, "subcode", a.Subcode, "status", a.Status, "fbtrace_id", a.TraceID)
		})
	}
	writes.Wait()
	return waits[0]
}

// standStill stops the page here, for the stated time or, when none is stated and it does not stand already, for the
// shortest: how long really is in Redis.
func (p *page) standStill(stated time.Duration) {
	seen := p.seen()
	if stated == 0 && seen.Stopped() {
		return
	}
	if stated == 0 {
		stated = pace.FirstBackOff
	}
	state := pace.State{Until: time.Now().Add(stated)}
	if seen.Refused || seen.Until.After(state.Until) {
		return
	}
	p.pacer.Hold(state, "")
	p.see(state)
}

// share stops the page for all workers, and gives for how long.
func (p *page) share(ctx context.Context, stated time.Duration) (wait time.Duration) {
	shared := p.insist(ctx, "throttle", func(ctx context.Context) (err error) {
		wait, err = p.Pace.Throttle(ctx, p.id, stated)
		return err
	})
	if shared {
		state := pace.State{Until: time.Now().Add(wait)}
		p.pacer.Learn(state)
		p.see(state)
	}
	return wait
}

// insist repeats a write to Redis for a moment. When it fails, this worker stands still all the same, and the others are
// told by the platform.
func (p *page) insist(ctx context.Context, what string, write func(context.Context) error) (done bool) {
	var err error
	for range 3 {
		limited, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		err = write(limited)
		cancel()
		if err == nil {
			return true
		}
	}
	p.Log.Error("stop of a page not shared", "page", p.id, "what", what, "err", err)
	return false
}
