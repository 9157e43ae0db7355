package web

import (
	"fmt"
	"testing"

	alertv1 "github.com/onebell/onebell/proto/onebell/alert/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/proto/verdict"
)

func TestNumbersAreReadable(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1\u202f000", 1234567: "1\u202f234\u202f567"} {
		if got := number(n); got != want {
			t.Errorf("number(%d) = %q", n, got)
		}
	}
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 22_100: "22.1 kB", 5_000_000_000: "5.0 GB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q", n, got)
		}
	}
}

func TestEveryVerdictHasATone(t *testing.T) {
	t.Parallel()
	for v, want := range map[string]string{
		verdict.Sent: "good", verdict.SentBefore: "good", verdict.TokenInvalid: "bad", verdict.GivenUp: "bad",
		verdict.Unclear: "wait", verdict.Throttled: "wait", verdict.WishPrice: "quiet", verdict.Expired: "quiet", "new_one": "quiet",
	} {
		if got := tone(v); got != want {
			t.Errorf("%s: %s, want %s", v, got, want)
		}
	}
}

func TestEveryStepHasWords(t *testing.T) {
	t.Parallel()
	for n := range alertv1.StepKind_name {
		if _, ok := steps[alertv1.StepKind(n)]; !ok && n != 0 {
			t.Errorf("no words for %s", alertv1.StepKind(n))
		}
	}
}

func TestALongListIsCutAndItsTotalIsWhole(t *testing.T) {
	t.Parallel()
	var topics []*tokenv1.TopicCount
	for n := range topicsShown + 10 {
		topics = append(topics, &tokenv1.TopicCount{Topic: fmt.Sprintf("stock:%03d", n), Waiting: int64(n), Void: 1})
	}
	f := pages.File{Pages: []pages.Page{{ID: "1"}, {ID: "2"}}}
	got := countPages(f, map[string][]*tokenv1.TopicCount{"2": topics})
	if len(got) != 2 || len(got[0].Topics) != 0 {
		t.Fatalf("%+v", got)
	}
	if p := got[1]; len(p.Topics) != topicsShown || p.More != 10 || p.Total.GetVoid() != 60 || p.Total.GetWaiting() != 59*60/2 || p.Topics[0].GetTopic() != "stock:059" {
		t.Errorf("%d topics, %d more, total %v, first %v", len(p.Topics), p.More, p.Total, p.Topics[0])
	}
}
