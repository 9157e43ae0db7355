package waves

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onebell/onebell/proto/rules"
)

func TestASegmentThatFailsIsLoggedOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		log := slog.New(slog.NewTextHandler(&said, nil))
		f := failures{said: map[string]time.Time{}}
		for range 3 {
			f.note(t.Context(), "stock", []rules.Failure{{Segment: "vip", Err: errors.New("no such key")}, {Segment: "french", Err: errors.New("x")}}, log)
		}
		if n := strings.Count(said.String(), "segment=vip"); n != 1 || !strings.Contains(said.String(), "segment=french") {
			t.Errorf("said %d times:\n%s", n, &said)
		}
		time.Sleep(time.Minute) // virtual
		f.note(t.Context(), "stock", []rules.Failure{{Segment: "vip", Err: errors.New("no such key")}}, log)
		if n := strings.Count(said.String(), "segment=vip"); n != 2 {
			t.Errorf("said %d times after a minute, want 2", n)
		}
	})
}
