package messenger

import (
	"encoding/json"
	"sync"
	"time"
)

// What a line of the journal tells of.
const (
	SendIn     = "send"    // a call of the Send API, with what became of it
	CallIn     = "call"    // any other call of the Graph API
	WebhookOut = "webhook" // a try to bring a webhook
	EventOut   = "event"   // the shop's desk told Onebell
)

// Line is one thing that the platform saw, in the order in which it did.
type Line struct {
	Seq       int64           `json:"seq"`
	At        time.Time       `json:"at"` // when the call arrived, by the machine's clock
	What      string          `json:"what"`
	PageID    string          `json:"page_id,omitempty"`
	PSID      string          `json:"psid,omitempty"`
	By        string          `json:"by,omitempty"`      // send: "app", or "shop" for the demo shop's bot
	Detail    string          `json:"detail,omitempty"`  // send: token or id; webhook: its field; call: its path; event: its topic
	Attempt   int             `json:"attempt,omitempty"` // webhook
	Status    int             `json:"status"`            // HTTP status; 0: there was no answer
	Code      int             `json:"code,omitempty"`    // of a refusal
	Subcode   int             `json:"error_subcode,omitempty"`
	MessageID string          `json:"message_id,omitempty"`
	Fault     string          `json:"fault,omitempty"` // that was played
	Proof     bool            `json:"appsecret_proof,omitempty"`
	Trace     string          `json:"traceparent,omitempty"`
	Problem   string          `json:"problem,omitempty"`
	Took      float64         `json:"took_ms"`
	Body      json.RawMessage `json:"body,omitempty"` // never an access token
}

// journalSize is how many lines are kept: a minute and more at the platform's own limit of 300 sends a second.
const journalSize = 50_000

// journal is a ring of lines.
type journal struct {
	mu    sync.Mutex
	lines []Line
	seq   int64
}

func (j *journal) add(l Line) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seq++
	l.Seq = j.seq
	if len(j.lines) < journalSize {
		j.lines = append(j.lines, l)
		return
	}
	j.lines[(l.Seq-1)%journalSize] = l
}

// after lists up to limit lines with a higher seq, of one kind unless what is empty.
func (j *journal) after(seq int64, what string, limit int) []Line {
	j.mu.Lock()
	defer j.mu.Unlock()
	found := []Line{}
	for n := max(seq+1, j.seq-int64(len(j.lines))+1); n <= j.seq && len(found) < limit; n++ {
		if l := j.lines[(n-1)%journalSize]; what == "" || l.What == what {
			found = append(found, l)
		}
	}
	return found
}

// last lists the newest lines, newest first.
func (j *journal) last(limit int) []Line {
	j.mu.Lock()
	defer j.mu.Unlock()
	var found []Line
	for n := j.seq; n > j.seq-int64(len(j.lines)) && len(found) < limit; n-- {
		found = append(found, j.lines[(n-1)%journalSize])
	}
	return found
}
