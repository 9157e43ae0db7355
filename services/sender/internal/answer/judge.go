package answer

import (
	"time"

	"github.com/onebell/onebell/proto/verdict"
)

// Limits of the classes that are tried again.
const (
	maxUnclear   = 10  // contract, section G: about half an hour with the delays below
	maxLate      = 3   // the first try and two late ones
	maxBusy      = 10  // another app holds the thread: about seven hours
	maxUnreached = 200 // a day and a half without the platform
)

// Judge decides. jitter is a random number in [0, 1).
func Judge(a Answer, h History, jitter float64) Decision {
	d := Decision{Unclear: h.Unclear, Late: h.Late, Unreached: h.Unreached}
	switch {
	case a.Transport == Unreached:
		return unreached(d, jitter)
	case a.Transport == Cut:
		return unclear(d, jitter, "cut")
	case a.MessageID != "" && !a.Failed && a.Status/100 == 2:
		d.Verdict, d.Final, d.Reason = verdict.Sent, true, "sent"
		return d
	}
	d.Released = true
	c := classOf(a)
	if a.Transient && ends[c] {
		c = ambiguous
	}
	switch c {
	case probablySent:
		d.Verdict, d.Final, d.Released, d.Reason = verdict.SentBefore, true, false, "probably_sent"
	case badToken:
		d.Verdict, d.Final, d.Released, d.Reason = verdict.TokenInvalid, true, false, "bad_token"
		if h.MayBeSent {
			d.Verdict = verdict.SentBefore
		}
	case throttlePage:
		return throttled(d, a, StopPage, jitter)
	case throttleApp:
		return throttled(d, a, StopApp, jitter)
	case pageToken:
		d.Verdict, d.Stop, d.Reason = verdict.PageRefused, StopToken, "page_token"
	case pageRestricted:
		d.Verdict, d.Stop, d.Reason = verdict.PageRefused, StopToken, "page_restricted"
	case permission:
		d.Verdict, d.Final, d.Dead, d.Reason = verdict.NotPermitted, true, true, verdict.NotPermitted
	case windowClosed:
		d.Verdict, d.Final, d.Dead, d.Reason = verdict.WindowClosed, true, true, verdict.WindowClosed
	case content:
		d.Verdict, d.Final, d.Dead, d.Reason = verdict.ContentRefused, true, true, verdict.ContentRefused
	case personStopped:
		d.Verdict, d.Final, d.Reason = verdict.PersonStopped, true, "stopped_at_platform"
	case unreachable:
		return late(d, verdict.Unreachable, maxLate, hours(d.Late, jitter))
	case threadOwner:
		return late(d, verdict.ThreadBusy, maxBusy, minutes(d.Late, jitter))
	case ambiguous, unknown:
		return unclear(d, jitter, "unclear")
	}
	return d
}

func unclear(d Decision, jitter float64, reason string) Decision {
	d.Unclear++
	d.Released = false
	d.Verdict, d.Reason = verdict.Unclear, reason
	if d.Unclear >= maxUnclear {
		return giveUp(d)
	}
	d.After = Unclear(d.Unclear, jitter)
	return d
}

// unreached: nothing left this machine. The permission is released, so that a later "invalid token" is not taken for
// "sent before"; the verdicts have none of its own for this, and a slower pace is what it comes to.
func unreached(d Decision, jitter float64) Decision {
	d.Unreached++
	d.Released = true
	d.Verdict, d.Reason, d.Stop = verdict.Throttled, "unreached", StopAway
	if d.Unreached >= maxUnreached {
		return giveUp(d)
	}
	d.After = Unclear(d.Unreached, jitter)
	return d
}

func throttled(d Decision, a Answer, stop Stop, jitter float64) Decision {
	d.Verdict, d.Reason, d.Stop = verdict.Throttled, verdict.Throttled, stop
	d.StopFor = max(a.Regain, a.RetryAfter)
	// The page itself stands still for so long; this only keeps the sends that met the error from being the first again.
	d.After = d.StopFor + time.Duration(jitter*float64(2*time.Second))
	return d
}

func late(d Decision, v string, limit int32, after time.Duration) Decision {
	d.Late++
	d.Verdict, d.Reason = v, v
	if d.Late >= limit {
		return giveUp(d)
	}
	d.After, d.Parked = after, v == verdict.Unreachable
	return d
}

func giveUp(d Decision) Decision {
	d.Verdict, d.Final, d.Dead = verdict.GivenUp, true, true
	return d
}

// Unclear is the delay after the nth try whose result is not known: 1 to 10 s after the first, then doubling from 5 s,
// a quarter more or less, up to 10 minutes.
func Unclear(n int32, jitter float64) time.Duration {
	if n <= 1 {
		return time.Second + time.Duration(jitter*float64(9*time.Second))
	}
	d := 5 * time.Second << min(n-1, 10)
	return min(10*time.Minute, time.Duration(float64(d)*(0.75+jitter/2)))
}

// hours parks somebody who cannot be reached: about four hours, then a day.
func hours(before int32, jitter float64) time.Duration {
	d := 4 * time.Hour
	if before > 0 {
		d = 24 * time.Hour
	}
	return time.Duration(float64(d) * (1 + jitter/4))
}

// minutes waits for another app to let go of the thread: five, doubling up to an hour.
func minutes(before int32, jitter float64) time.Duration {
	d := min(time.Hour, 5*time.Minute<<min(before, 6))
	return time.Duration(float64(d) * (1 + jitter/4))
}
