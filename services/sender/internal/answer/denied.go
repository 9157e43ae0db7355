package answer

import (
	"time"

	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/verdict"
)

// heldLimit is how long a send waits for a permission that another send holds or that is parked. A send that is unclear is
// given up after half an hour, a person out of reach after two days: whoever waits longer waits for nothing.
const heldLimit = 72 * time.Hour

// Denied decides what becomes of a send whose grant was refused. since is how long its pack has been in the queue. An empty
// verdict: no outcome is written, either because it comes again (After), or because somebody has written it (Final).
func Denied(reason tokenv1.DenialReason, since time.Duration, jitter float64) Decision {
	later := func(after time.Duration, why string) Decision {
		if since > heldLimit {
			return Decision{Verdict: verdict.GivenUp, Reason: why, Final: true, Dead: true}
		}
		return Decision{Reason: why, After: time.Duration(float64(after) * (1 + jitter/2))}
	}
	switch reason {
	case tokenv1.DenialReason_DENIAL_REASON_ALREADY_SPENT:
		return Decision{Final: true, Reason: "already_spent"}
	case tokenv1.DenialReason_DENIAL_REASON_EXPIRED:
		return Decision{Final: true, Verdict: verdict.Expired, Reason: verdict.Expired}
	case tokenv1.DenialReason_DENIAL_REASON_REVOKED:
		// A stopped person is said before this: what is left is a void token.
		return Decision{Final: true, Verdict: verdict.TokenInvalid, Reason: "revoked"}
	case tokenv1.DenialReason_DENIAL_REASON_PERSON_STOPPED:
		return Decision{Final: true, Verdict: verdict.PersonStopped, Reason: verdict.PersonStopped}
	case tokenv1.DenialReason_DENIAL_REASON_UNKNOWN_PERMISSION:
		// The token service answers only when its index is complete: there was one, and it was erased.
		return Decision{Final: true, Verdict: verdict.PersonForgotten, Reason: "unknown_permission"}
	case tokenv1.DenialReason_DENIAL_REASON_TOPIC_MISMATCH:
		return Decision{Final: true, Dead: true, Verdict: verdict.NotPermitted, Reason: "topic_mismatch"}
	case tokenv1.DenialReason_DENIAL_REASON_PAGE_PAUSED:
		return Decision{Reason: verdict.PagePaused, After: time.Duration(float64(15*time.Second) * (1 + jitter/2))}
	case tokenv1.DenialReason_DENIAL_REASON_NOT_YET:
		return later(between(since, time.Minute, 30*time.Minute), "not_yet")
	case tokenv1.DenialReason_DENIAL_REASON_LEASED:
		return later(between(since, 10*time.Second, 10*time.Minute), "leased")
	case tokenv1.DenialReason_DENIAL_REASON_UNSPECIFIED:
	}
	return later(time.Minute, "denied") // a reason of a newer token service
}

// between waits as long again as was waited before, within limits.
func between(since, least, most time.Duration) time.Duration { return min(max(since, least), most) }
