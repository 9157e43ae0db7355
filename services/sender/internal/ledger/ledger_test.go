package ledger

import (
	"testing"
	"time"

	"github.com/onebell/onebell/pkg/testkit"
	sendv1 "github.com/onebell/onebell/proto/onebell/send/v1"
	"github.com/onebell/onebell/proto/topology"
)

// A round of a pack that is cut short may have put some sends back. The next round's are never taken for a repeat of them.
func TestWhatIsPutBackWithOthersIsNotDropped(t *testing.T) {
	t.Parallel()
	_, js := testkit.JetStream(t, topology.Configs(1))
	l := New(js)
	a, b := &sendv1.Send{SendId: "a"}, &sendv1.Send{SendId: "b"}
	for _, step := range []struct {
		sends []*sendv1.Send
		cause string
		want  uint64
	}{
		{[]*sendv1.Send{a}, "7", 1},
		{[]*sendv1.Send{a, b}, "7", 2},
		{[]*sendv1.Send{b, a}, "7", 2}, // the same again
		{[]*sendv1.Send{a, b}, "8", 3}, // out of another message
	} {
		if err := l.Again(t.Context(), "1", topology.Normal, step.sends, time.Now(), step.cause); err != nil {
			t.Fatal(err)
		}
		s, err := js.Stream(t.Context(), topology.Sends)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.CachedInfo().State.Msgs; got != step.want {
			t.Errorf("%d packs after putting back %v out of %s, want %d", got, step.sends, step.cause, step.want)
		}
	}
}
