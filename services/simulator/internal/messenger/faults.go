package messenger

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/onebell/onebell/services/simulator/internal/platform"
)

// Faults are the platform's bad days. Rates are probabilities from 0 to 1. A new set replaces the old one whole.
type Faults struct {
	PageID       string              `json:"page_id,omitempty"` // only this page's calls; empty: every page's
	LatencyMS    int                 `json:"latency_ms"`        // added to every answer
	Error        *platform.ErrorCode `json:"error,omitempty"`   // code or code/subcode, instead of doing what is asked
	ErrorRate    float64             `json:"error_rate"`
	TimeoutRate  float64             `json:"timeout_rate"`   // the send is done and never answered
	CutRate      float64             `json:"cut_rate"`       // the connection is cut before anything is done
	ResetRate    float64             `json:"reset_rate"`     // the send is done and the connection is cut
	RubbishRate  float64             `json:"rubbish_rate"`   // the send is done and answered 200 with something unreadable
	Webhooks     WebhookFaults       `json:"webhooks"`       //
	RegainMinute int                 `json:"regain_minutes"` // with a throttle error: estimated_time_to_regain_access
}

// WebhookFaults are the bad days of the way out.
type WebhookFaults struct {
	DuplicateRate float64 `json:"duplicate_rate"`
	LateMS        int     `json:"late_ms"` // delay of every webhook; order is kept
	ReorderRate   float64 `json:"reorder_rate"`
}

// Check names what cannot be used.
func (f Faults) Check() error {
	var problems []error
	for name, rate := range map[string]float64{
		"error_rate": f.ErrorRate, "timeout_rate": f.TimeoutRate, "cut_rate": f.CutRate, "reset_rate": f.ResetRate, "rubbish_rate": f.RubbishRate,
		"webhooks.duplicate_rate": f.Webhooks.DuplicateRate, "webhooks.reorder_rate": f.Webhooks.ReorderRate,
	} {
		if rate < 0 || rate > 1 {
			problems = append(problems, fmt.Errorf("%s is %g: expected 0 to 1", name, rate))
		}
	}
	const minute = 60_000
	if f.LatencyMS < 0 || f.LatencyMS > minute || f.Webhooks.LateMS < 0 || f.Webhooks.LateMS > minute {
		problems = append(problems, errors.New("latency_ms and webhooks.late_ms: expected 0 to 60000"))
	}
	if f.ErrorRate > 0 && f.Error == nil {
		problems = append(problems, errors.New("error is missing: error_rate needs a code like 2 or 551/1545041"))
	}
	if f.RegainMinute < 0 {
		problems = append(problems, errors.New("regain_minutes: expected 0 or more"))
	}
	return errors.Join(problems...)
}

// Play is what happens to one call.
type Play struct {
	Latency time.Duration
	Before  string // "cut" or "error": nothing is done
	After   string // "timeout", "reset" or "rubbish": done, but not answered well
	Error   *platform.Error
	Usage   platform.Usage
}

// play draws the fate of a call.
func (f Faults) play(page string) Play {
	if f.PageID != "" && f.PageID != page {
		return Play{}
	}
	p := Play{Latency: time.Duration(f.LatencyMS) * time.Millisecond}
	switch {
	case happens(f.CutRate):
		p.Before = "cut"
	case f.Error != nil && happens(f.ErrorRate):
		p.Before, p.Error = "error", platform.Documented(*f.Error)
		p.Usage.Minutes = f.RegainMinute
	case happens(f.TimeoutRate):
		p.After = "timeout"
	case happens(f.ResetRate):
		p.After = "reset"
	case happens(f.RubbishRate):
		p.After = "rubbish"
	}
	return p
}

// delays gives when a webhook goes out: once, twice when it is duplicated.
func (f WebhookFaults) delays() []time.Duration {
	late := time.Duration(f.LateMS) * time.Millisecond
	delays := []time.Duration{late}
	if happens(f.ReorderRate) {
		delays[0] += time.Duration(50+rand.IntN(450)) * time.Millisecond // later ones of the same person overtake it
	}
	if happens(f.DuplicateRate) {
		delays = append(delays, late+time.Duration(rand.IntN(500))*time.Millisecond)
	}
	return delays
}

func happens(rate float64) bool { return rate > 0 && rand.Float64() < rate }
