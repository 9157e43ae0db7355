package platform

import (
	"encoding/json"
	"math"
	"time"
)

// Limits of a page's calls. Sources: the platform's page on rate limiting.
type Limits struct {
	TextPerSecond  int       `env:"ONEBELL_SIMULATOR_TEXT_PER_SECOND" envDefault:"300" json:"text_per_second" help:"calls of one page in a second before it is throttled"`
	MediaPerSecond int       `env:"ONEBELL_SIMULATOR_MEDIA_PER_SECOND" envDefault:"10" json:"media_per_second" help:"the same for audio and video"`
	ThrottleError  ErrorCode `env:"ONEBELL_SIMULATOR_THROTTLE_ERROR" envDefault:"613" json:"throttle_error" help:"error above the limit: 613, 80006, 4, 17, 32, 80001"`
	RegainMinutes  int       `env:"ONEBELL_SIMULATOR_REGAIN_MINUTES" envDefault:"1" json:"regain_minutes" help:"minutes for which a page that went above the limit stays refused"`
}

// DefaultLimits are those of a simulator whose environment says nothing.
func DefaultLimits() Limits {
	return Limits{TextPerSecond: 300, MediaPerSecond: 10, ThrottleError: ErrorCode{Code: 613}, RegainMinutes: 1}
}

// meter counts a page's calls of the last second.
type meter struct {
	text, media []time.Time
	until       time.Time // refused until then
}

// Usage is what the usage headers say.
type Usage struct {
	Percent int // of the limit, in the last second
	Minutes int // estimated time to regain access
}

// Count takes a call into account: an error when the page is above its limit, or still refused because it was. A call
// that is refused lengthens the block.
func (w *World) Count(page string, s Send, l Limits, now time.Time) (Usage, *Error) {
	m := w.rates[page]
	if m == nil {
		m = &meter{}
		w.rates[page] = m
	}
	calls, limit := &m.text, l.TextPerSecond
	if s.media() {
		calls, limit = &m.media, l.MediaPerSecond
	}
	*calls = append(lastSecond(*calls, now), now)
	if len(*calls) > limit || now.Before(m.until) {
		if block := now.Add(time.Duration(l.RegainMinutes) * time.Minute); block.After(m.until) {
			m.until = block
		}
		return Usage{Percent: 100, Minutes: l.RegainMinutes}, Documented(l.ThrottleError)
	}
	return Usage{Percent: len(*calls) * 100 / max(limit, 1)}, nil
}

func lastSecond(calls []time.Time, now time.Time) []time.Time {
	from := now.Add(-time.Second)
	for i, at := range calls {
		if at.After(from) {
			return calls[i:]
		}
	}
	return calls[:0]
}

// busy is from which percentage on the platform sends usage headers: "once an endpoint is busy enough".
const busy = 50

// Header gives the value of X-Business-Use-Case-Usage, under which calls with a page's token count; empty while the page
// is not busy.
func (u Usage) Header(page string) string {
	if u.Percent < busy && u.Minutes == 0 {
		return ""
	}
	type row struct {
		Type    string `json:"type"`
		Calls   int    `json:"call_count"`
		CPU     int    `json:"total_cputime"`
		Time    int    `json:"total_time"`
		Minutes int    `json:"estimated_time_to_regain_access"`
	}
	quarter := int(math.Ceil(float64(u.Percent) / 4))
	b, _ := json.Marshal(map[string][]row{page: {{"messenger", u.Percent, quarter, quarter, u.Minutes}}}) // strings and numbers: cannot fail
	return string(b)
}
