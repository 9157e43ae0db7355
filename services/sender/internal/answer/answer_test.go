package answer_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/verdict"
	"github.com/onebell/onebell/services/sender/internal/answer"
)

// want is what an error means for a send without history.
type want struct {
	verdict               string
	final, released, dead bool
	stop                  answer.Stop
	afterUnclear          string // verdict when an earlier try may have gone out; empty: the same
}

var (
	unclear      = want{verdict: verdict.Unclear}
	notPermitted = want{verdict: verdict.NotPermitted, final: true, released: true, dead: true}
	content      = want{verdict: verdict.ContentRefused, final: true, released: true, dead: true}
	window       = want{verdict: verdict.WindowClosed, final: true, released: true, dead: true}
	unreachable  = want{verdict: verdict.Unreachable, released: true}
	busy         = want{verdict: verdict.ThreadBusy, released: true}
	page         = want{verdict: verdict.Throttled, released: true, stop: answer.StopPage}
	app          = want{verdict: verdict.Throttled, released: true, stop: answer.StopApp}
	refused      = want{verdict: verdict.PageRefused, released: true, stop: answer.StopToken}
	badToken     = want{verdict: verdict.TokenInvalid, final: true, afterUnclear: verdict.SentBefore}
	before       = want{verdict: verdict.SentBefore, final: true}
)

// wanted has a row for each file of testdata/errors.
var wanted = map[string]want{
	"-1.json": unclear, "1_99.json": unclear, "2.json": unclear, "1200.json": unclear, "1_1357046.json": before,
	"2_2018344.json": notPermitted, "10303.json": notPermitted,
	"4.json": app, "4_2018022.json": app, "613_1996.json": app,
	"17.json": page, "32.json": page, "613.json": page, "613_2018338.json": page, "80001.json": page, "80006.json": page,
	"4_2018354.json": unreachable, "9_2018352.json": unreachable, "613_1893016.json": unreachable,
	"10_2018108.json": unreachable, "200_1545041.json": unreachable, "551.json": unreachable, "551_1545041.json": unreachable,
	"10_1893015.json": {verdict: verdict.PersonStopped, final: true, released: true},
	"10_1404170.json": refused, "10_1893063.json": refused, "368.json": refused, "2022.json": refused,
	"190.json": refused, "190_458.json": refused, "190_459.json": refused, "190_460.json": refused, "190_463.json": refused,
	"190_464.json": refused, "190_467.json": refused, "190_492.json": refused,
	"10_2018065.json": window, "10_2018278.json": window, "10_2534022.json": window,
	"100.json": badToken, "100_b.json": badToken, "100_2018001.json": badToken,
	"100_33.json": notPermitted, "100_2018014.json": notPermitted,
	"100_2018008.json": content, "100_2018034.json": content, "100_2018047.json": content, "100_2018074.json": content,
	"100_2018109.json": content, "100_2018294.json": content,
	"200.json": notPermitted, "200_2018021.json": notPermitted, "200_2018027.json": notPermitted, "200_2018028.json": notPermitted,
	"230.json": notPermitted, "2018300.json": busy, "2018321.json": busy,
}

func TestEveryDocumentedErrorHasItsMeaning(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../testdata/errors/*.json")
	if err != nil || len(files) < 50 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		if name == "INDEX.json" {
			continue
		}
		w, ok := wanted[name]
		if !ok {
			t.Errorf("%s has no row", name)
			continue
		}
		a := read(t, file)
		got := answer.Judge(a, answer.History{Attempt: 1}, 0.5)
		if got.Verdict != w.verdict || got.Final != w.final || got.Released != w.released || got.Dead != w.dead || got.Stop != w.stop {
			t.Errorf("%s: %+v, want %+v", name, got, w)
		}
		if again := !got.Final; again && w.stop == answer.StopNothing && got.After < time.Second {
			t.Errorf("%s comes again after %s", name, got.After)
		}
		if w.afterUnclear == "" {
			w.afterUnclear = w.verdict
		}
		later := answer.Judge(a, answer.History{Attempt: 2, Unclear: 1, MayBeSent: true}, 0.5)
		if later.Verdict != w.afterUnclear || later.Released != w.released {
			t.Errorf("%s after an unclear try: %+v", name, later)
		}
	}
}

func read(t *testing.T, file string) answer.Answer {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var body struct {
		Error struct {
			Code    int `json:"code"`
			Subcode int `json:"error_subcode"`
		} `json:"error"`
	}
	if err := json.Unmarshal(content, &body); err != nil {
		t.Fatal(err)
	}
	// The status is 400 throughout: it must not matter.
	return answer.Answer{Status: 400, Failed: true, Code: body.Error.Code, Subcode: body.Error.Subcode}
}

func TestAnswersWithoutAKnownCode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		a    answer.Answer
		want want
	}{
		{"sent", answer.Answer{Status: 200, MessageID: "m"}, want{verdict: verdict.Sent, final: true}},
		{"200 with rubbish", answer.Answer{Status: 200}, unclear},
		{"200 with an error", answer.Answer{Status: 200, MessageID: "m", Failed: true, Code: 551}, unreachable},
		{"5xx without a body", answer.Answer{Status: 503}, unclear},
		{"5xx with a code", answer.Answer{Status: 500, Failed: true, Code: 190}, refused},
		{"a code on no list", answer.Answer{Status: 400, Failed: true, Code: 777777}, unclear},
		{"a bad token that will pass", answer.Answer{Status: 400, Failed: true, Code: 100, Transient: true}, unclear},
		{"content that will pass", answer.Answer{Status: 400, Failed: true, Code: 100, Subcode: 2018008, Transient: true}, unclear},
		{"a throttle that will pass", answer.Answer{Status: 400, Failed: true, Code: 613, Transient: true}, page},
		{"a page token that will pass", answer.Answer{Status: 400, Failed: true, Code: 190, Transient: true}, refused},
		{"429 without a code", answer.Answer{Status: 429}, page},
		{"a redirect", answer.Answer{Status: 302}, unclear},
		{"timeout or reset", answer.Answer{Transport: answer.Cut}, unclear},
		{"connection refused", answer.Answer{Transport: answer.Unreached}, want{verdict: verdict.Throttled, released: true, stop: answer.StopAway}},
	} {
		got := answer.Judge(c.a, answer.History{Attempt: 1}, 0)
		if got.Verdict != c.want.verdict || got.Final != c.want.final || got.Released != c.want.released || got.Dead != c.want.dead || got.Stop != c.want.stop {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestUnclearTriesAreGivenUpAfterTen(t *testing.T) {
	t.Parallel()
	for _, jitter := range []float64{0, 0.999} {
		h := answer.History{}
		var delays []time.Duration
		for h.Attempt = 1; ; h.Attempt++ {
			d := answer.Judge(answer.Answer{Transport: answer.Cut}, h, jitter)
			if d.Final {
				if h.Attempt != 10 || d.Verdict != verdict.GivenUp || !d.Dead || d.Released {
					t.Errorf("try %d: %+v", h.Attempt, d)
				}
				break
			}
			delays = append(delays, d.After)
			h.Unclear, h.MayBeSent = d.Unclear, true
		}
		if first := delays[0]; first < time.Second || first > 10*time.Second {
			t.Errorf("first retry after %s", first)
		}
		for i := 2; i < len(delays); i++ {
			if delays[i] < delays[i-1] || delays[i] > 10*time.Minute {
				t.Errorf("delays %v", delays)
			}
		}
		if delays[8] != 10*time.Minute {
			t.Errorf("the longest delay is %s", delays[8])
		}
	}
}

func TestPeopleOutOfReachAreTriedTwiceMore(t *testing.T) {
	t.Parallel()
	a := answer.Answer{Status: 400, Failed: true, Code: 551}
	first := answer.Judge(a, answer.History{Attempt: 1}, 0)
	second := answer.Judge(a, answer.History{Attempt: 2, Late: first.Late}, 0)
	third := answer.Judge(a, answer.History{Attempt: 3, Late: second.Late}, 0)
	if first.After < 4*time.Hour || second.After < 24*time.Hour || !first.Parked || !second.Parked {
		t.Errorf("parked for %s and %s", first.After, second.After)
	}
	if third.Verdict != verdict.GivenUp || !third.Dead || !third.Released {
		t.Errorf("third: %+v", third)
	}
}

func TestThrottleTakesTheStatedTime(t *testing.T) {
	t.Parallel()
	d := answer.Judge(answer.Answer{Status: 400, Failed: true, Code: 80006, Regain: 19 * time.Minute}, answer.History{}, 0)
	if d.StopFor != 19*time.Minute || d.After < 19*time.Minute {
		t.Errorf("%+v", d)
	}
}

func TestRefusedGrants(t *testing.T) {
	t.Parallel()
	for reason := range tokenv1.DenialReason_name {
		d := answer.Denied(tokenv1.DenialReason(reason), 0, 0)
		if !d.Final && d.After <= 0 {
			t.Errorf("%s neither ends nor comes again: %+v", tokenv1.DenialReason(reason), d)
		}
		if d.Released {
			t.Errorf("%s releases what was not granted", tokenv1.DenialReason(reason))
		}
	}
	if d := answer.Denied(tokenv1.DenialReason_DENIAL_REASON_ALREADY_SPENT, 0, 0); d.Verdict != "" || !d.Final {
		t.Errorf("already spent: %+v", d)
	}
	if d := answer.Denied(tokenv1.DenialReason_DENIAL_REASON_LEASED, 100*time.Hour, 0); d.Verdict != verdict.GivenUp || !d.Dead {
		t.Errorf("held for days: %+v", d)
	}
}
