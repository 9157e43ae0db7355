// Package verdict is the list of reasons, one lower-case word each, the same in subjects, JSON, metrics, command line and
// console (contract, section G), and what each does to the permission. It decides nothing.
package verdict

// The verdicts.
const (
	Sent            = "sent"             // answered with a message id
	SentBefore      = "sent_before"      // invalid-token answer after an unclear try of the same send; an echo; 1/1357046
	TokenInvalid    = "token_invalid"    // the platform refuses the token, and no unclear try went before
	Expired         = "expired"          // the permission lapsed
	PersonStopped   = "person_stopped"   // the person asked for no more messages
	PersonForgotten = "person_forgotten" // the person was erased
	Unclear         = "unclear"          // not known whether it was sent: tried again with the same token
	Unreachable     = "unreachable"      // the person cannot be reached now
	Throttled       = "throttled"        // the platform asks for a slower pace
	PageRefused     = "page_refused"     // page token or restriction
	PagePaused      = "page_paused"      // an operator paused the page
	QuietHours      = "quiet_hours"      // not at this hour
	WindowClosed    = "window_closed"    // the token was not honoured
	ContentRefused  = "content_refused"  // the platform refuses the message
	NotPermitted    = "not_permitted"    // the app or page lacks a right
	ThreadBusy      = "thread_busy"      // another app holds the thread
	WishQuantity    = "wish_quantity"    // fewer units than the person asked for
	WishPrice       = "wish_price"       // dearer than the person asked for, or too small a drop
	WishCurrency    = "wish_currency"    // the person's target is in another currency
	NoWords         = "no_words"         // the message cannot be rendered for this person
	NotInWave       = "not_in_wave"      // not enough stock for this person yet
	ConditionGone   = "condition_gone"   // judged again at the last instant
	Cancelled       = "cancelled"        // the alert was cancelled
	Superseded      = "superseded"       // a newer alert took it
	GivenUp         = "given_up"         // the retries of its class are used up
)

// Effect is what a verdict does to the permission.
type Effect int

// The effects.
const (
	Nothing  Effect = iota // the permission is untouched
	Spends                 // used
	Voids                  // dead
	Expires                // lapsed
	Clouds                 // tried, result not known
	Releases               // waits again, when the outcome says `released`; else untouched
)

// Effects says for each verdict what it does to the permission.
var Effects = map[string]Effect{
	Sent: Spends, SentBefore: Spends,
	TokenInvalid: Voids, Expired: Expires,
	PersonStopped: Releases, PersonForgotten: Nothing, // the person's own fact on PEOPLE revokes and erases
	Unclear: Clouds, GivenUp: Releases, // a send given up after unclear tries is not released: it stays unknown
	Unreachable: Releases, Throttled: Releases, PageRefused: Releases, PagePaused: Releases, QuietHours: Releases,
	WindowClosed: Releases, ContentRefused: Releases, NotPermitted: Releases, ThreadBusy: Releases,
	ConditionGone: Releases, Cancelled: Releases, Superseded: Releases,
	WishQuantity: Nothing, WishPrice: Nothing, WishCurrency: Nothing, NoWords: Nothing, NotInWave: Nothing,
}

// PassedOver tells whether a verdict is a choice of the alert service: nothing was tried.
func PassedOver(v string) bool {
	switch v {
	case WishQuantity, WishPrice, WishCurrency, NoWords, NotInWave:
		return true
	}
	return false
}
