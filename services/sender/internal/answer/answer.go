// Package answer is the rule of what an answer of the Send API means: for the send, its permission, its page and the
// operator. It branches on numbers only, never on texts, which are translated and change. It does no I/O and knows no clock.
package answer

import (
	"time"
)

// Transport is how far a call came.
type Transport int

// How far a call came.
const (
	Answered  Transport = iota // an HTTP answer was read to its end
	Unreached                  // certain that nothing left: DNS, connection refused, TLS handshake
	Cut                        // the request may have arrived: timeout, reset, end of file
)

// Answer is what came of one call.
type Answer struct {
	Transport Transport
	Err       error // why it was not answered, or cannot be read
	Status    int   // HTTP status
	MessageID string

	Failed    bool // the body holds an error object: Code and Subcode are the platform's
	Code      int
	Subcode   int
	Transient bool // the platform itself says that it will pass
	TraceID   string

	Regain     time.Duration // estimated_time_to_regain_access of the usage header; 0: not said
	RetryAfter time.Duration // Retry-After; 0: not said
}

// History is what was known of a send before this try.
type History struct {
	Attempt   int32 // number of this try, from 1
	Unclear   int32 // tries before it with unknown result
	Late      int32 // tries before it that did not get through for a while
	Unreached int32 // tries before it that did not reach the platform
	// MayBeSent: an earlier try, in this chain or before a crash, may have gone out.
	MayBeSent bool
}

// Stop is what an answer stops.
type Stop int

// What an answer stops.
const (
	StopNothing Stop = iota
	StopPage         // the page, for a time
	StopApp          // every page of the same app, for a time
	StopToken        // the page, until its access token changed
	StopAway         // this worker, shortly: the platform cannot be reached from here
)

// Decision is what to do.
type Decision struct {
	Verdict string // of the outcome
	Reason  string // short code for dead letters and logs
	Final   bool   // nothing more is tried for this send
	// Released: certain that nothing was sent by this try: its grant is undone. An earlier try of unknown result is not:
	// the token service keeps the permission unknown while there is one.
	Released bool
	Dead     bool // a copy goes to the dead letters
	After    time.Duration
	Parked   bool // the permission is parked for After, also for others
	Stop     Stop
	StopFor  time.Duration // 0: not said, back off
	// The counts for the next try.
	Unclear, Late, Unreached int32
}

// class is a group of errors with the same consequences.
type class int

const (
	unknown class = iota
	ambiguous
	probablySent
	badToken
	throttlePage
	throttleApp
	pageToken
	pageRestricted
	permission
	windowClosed
	unreachable
	personStopped
	content
	threadOwner
)

type number struct{ code, subcode int }

// anySub stands for every subcode that has no row of its own.
const anySub = -1

// ends are the classes that end a send or void its token. The platform's word that an error will pass counts more than they
// do: it is asked again. For the others the table says already when that is.
var ends = map[class]bool{badToken: true, permission: true, windowClosed: true, content: true}

// table is section 4 of the platform notes. Rows with a subcode go before those without.
var table = map[number]class{
	{1, 1357046}: probablySent, {1, anySub}: ambiguous,
	{2, 2018344}: permission, // the page's admin has to accept terms first
	{2, anySub}:  ambiguous, {-1, anySub}: ambiguous, {1200, anySub}: ambiguous,

	{3, anySub}: permission,
	// A cadence of another kind of permission: comes later, and is no throttle of the app.
	{4, 2018354}: unreachable, {9, 2018352}: unreachable, {613, 1893016}: unreachable,
	{4, anySub}: throttleApp, {613, 1996}: throttleApp,
	{17, anySub}: throttlePage, {32, anySub}: throttlePage, {613, anySub}: throttlePage,
	{80001, anySub}: throttlePage, {80006, anySub}: throttlePage,

	{10, 2018278}: windowClosed, {10, 2018065}: windowClosed, {10, 2534022}: windowClosed,
	{10, 2018108}: unreachable, {10, 1893015}: personStopped,
	{10, 1893063}: pageRestricted, {10, 1404170}: pageRestricted,
	{10, anySub}:  permission,
	{368, anySub}: pageRestricted, {2022, anySub}: pageRestricted,
	{102, anySub}: pageToken, {190, anySub}: pageToken,

	{100, 33}: permission, {100, 2018014}: permission, // our caller or our settings are wrong
	{100, 2018008}: content, {100, 2018034}: content, {100, 2018047}: content, {100, 2018074}: content,
	{100, 2018109}: content, {100, 2018294}: content, {100, 2018320}: content,
	{100, 2534037}: threadOwner, {2018300, anySub}: threadOwner, {2018321, anySub}: threadOwner,
	{100, anySub}: badToken,

	{200, 1545041}: unreachable, {551, anySub}: unreachable,
	{200, anySub}: permission, {230, anySub}: permission, {10303, anySub}: permission,
}

// classOf finds the class of an answer with an error, or of one that cannot be read.
func classOf(a Answer) class {
	if a.Failed {
		if c, ok := table[number{a.Code, a.Subcode}]; ok {
			return c
		}
		if c, ok := table[number{a.Code, anySub}]; ok {
			return c
		}
	}
	if a.Status == 429 { // a refusal by number, whoever says it
		return throttlePage
	}
	// A code on no list, a 5xx, an answer that cannot be read. Repeating with the same token is safe; ten tries, then a
	// person looks at it.
	return unknown
}
