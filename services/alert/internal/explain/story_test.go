package explain

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	outcomev1 "github.com/onebell/onebell/proto/onebell/outcome/v1"
	"github.com/onebell/onebell/proto/verdict"
)

func TestChosenIsToldOnceForEachSendOfAnAlert(t *testing.T) {
	t.Parallel()
	at := func(second int) *timestamppb.Timestamp {
		return timestamppb.New(time.Unix(1782900000+int64(second), 0))
	}
	s := story{
		tried: []try{
			{at(2).AsTime(), &outcomev1.Try{SendId: "s1", AlertId: "a1", Attempt: 1}},
			{at(5).AsTime(), &outcomev1.Try{SendId: "s1", AlertId: "a1", Attempt: 2}},
			{at(6).AsTime(), &outcomev1.Try{SendId: "own", Attempt: 1}}, // granted by somebody else
		},
		outcomes: []*outcomev1.Outcome{
			{SendId: "s1", AlertId: "a1", Verdict: verdict.WishQuantity, At: at(1)},
			{SendId: "s1", AlertId: "a1", Verdict: verdict.Unclear, At: at(3)},
			{SendId: "s0", AlertId: "a0", Verdict: verdict.Sent, At: at(0)}, // its tries are forgotten
			{SendId: "own", Verdict: verdict.Sent, At: at(7)},
		},
	}
	got := ""
	for _, step := range s.tell() {
		got += step.GetKind().String()[len("STEP_KIND_"):] + " " + step.GetSendId() + ", "
		if step.GetReason() == "" && step.GetKind().String() == "STEP_KIND_CHOSEN" {
			t.Errorf("%v does not say how it is known", step)
		}
	}
	const want = "CHOSEN s0, SETTLED s0, PASSED_OVER s1, CHOSEN s1, GRANTED s1, ATTEMPTED s1, SETTLED s1, GRANTED s1, ATTEMPTED s1, GRANTED own, ATTEMPTED own, SETTLED own, "
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}
