package webhook

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
)

var (
	errTooLarge = errors.New("body too large")
	errTooSlow  = errors.New("request not there in time")
	errBusy     = errors.New("too many bytes in flight")
)

// firstBuffer is what a body begins with: most webhooks are one event of 300 to 1,000 bytes.
const firstBuffer = 2 << 10

// budget bounds the bytes held by all requests together.
type budget struct {
	limit int64
	used  atomic.Int64
}

func (b *budget) take(n int) bool {
	if b.used.Add(int64(n)) > b.limit {
		b.used.Add(int64(-n))
		return false
	}
	return true
}

func (b *budget) give(n int) { b.used.Add(int64(-n)) }

// read reads a body whole. It holds memory only for what has come in, not for what was announced, so that slow senders
// cannot keep others out. release gives the memory back, also after an error.
func (h *Handler) read(r *http.Request) (body []byte, release func(), err error) {
	held := 0
	release = func() { h.held.give(held) }
	limit := h.Limits.Body()
	if r.ContentLength > int64(limit) {
		drain(r, limit)
		return nil, release, errTooLarge
	}
	for {
		if len(body) == cap(body) {
			// One byte more than the limit tells a body that is too large.
			size := min(max(2*cap(body), firstBuffer), limit+1)
			if !h.held.take(size - cap(body)) {
				return body, release, errBusy
			}
			held = size
			body = append(make([]byte, 0, size), body...)
		}
		n, err := r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case len(body) > limit:
			drain(r, limit)
			return nil, release, errTooLarge
		case errors.Is(err, io.EOF):
			return body, release, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return body, release, errTooSlow
		case err != nil:
			return body, release, err
		}
	}
}

// drain throws away the rest of a body that is too large, within reason: a sender that is cut off while it writes sees a
// broken connection instead of the answer. One that asks before it sends gets the answer at once.
func drain(r *http.Request, limit int) {
	if r.Header.Get("Expect") == "" {
		_, _ = io.CopyN(io.Discard, r.Body, 4*int64(limit))
	}
}
