package graph

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/onebell/onebell/services/sender/internal/answer"
)

// reply is the body of an answer, good or bad.
type reply struct {
	MessageID string `json:"message_id"`
	Error     *struct {
		Code      int    `json:"code"`
		Subcode   int    `json:"error_subcode"`
		Transient bool   `json:"is_transient"`
		TraceID   string `json:"fbtrace_id"`
	} `json:"error"`
}

func parse(status int, content []byte) answer.Answer {
	a := answer.Answer{Transport: answer.Answered, Status: status}
	var r reply
	if err := json.Unmarshal(content, &r); err != nil {
		// The text itself stays out of the error: it may repeat the request.
		a.Err = fmt.Errorf("answer of %d bytes with status %d is not the JSON expected", len(content), status)
		return a
	}
	a.MessageID = r.MessageID
	if r.Error != nil {
		a.Failed = true
		a.Code, a.Subcode, a.Transient, a.TraceID = r.Error.Code, r.Error.Subcode, r.Error.Transient, r.Error.TraceID
	}
	return a
}

// usage is one row of X-Business-Use-Case-Usage.
type usage struct {
	Type   string  `json:"type"`
	Regain float64 `json:"estimated_time_to_regain_access"` // minutes
}

// regain is the longest time that the usage header states for messages of this page. The header's keys are ids of business
// objects, a page among them; when the page is not, all of them count.
func regain(h http.Header, pageID string) time.Duration {
	var all map[string][]usage
	if json.Unmarshal([]byte(h.Get("X-Business-Use-Case-Usage")), &all) != nil {
		return 0
	}
	if own, ok := all[pageID]; ok {
		all = map[string][]usage{pageID: own}
	}
	var longest float64
	for _, rows := range all {
		for _, u := range rows {
			if u.Type == "messenger" || u.Type == "pages" {
				longest = max(longest, u.Regain)
			}
		}
	}
	return time.Duration(min(longest, maxMinutes) * float64(time.Minute))
}

// A stated time beyond a day is taken for a day: then the page asks again.
const maxMinutes = 24 * 60

// retryAfter reads both forms of the header: seconds, and a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, maxMinutes*time.Minute)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(0, at.Sub(now)), maxMinutes*time.Minute)
	}
	return 0
}

// withoutURL drops the address from an error of net/http: it ends in logs, and holds the proof.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
