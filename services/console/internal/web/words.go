package web

import (
	"fmt"
	"html/template"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	alertv1 "github.com/onebell/onebell/proto/onebell/alert/v1"
	"github.com/onebell/onebell/proto/verdict"
)

// words are the functions of the templates.
var words = template.FuncMap{"when": when, "exactly": exactly, "number": number, "size": size, "tone": tone, "step": step}

// when is a time for readers, in UTC like every time on the page.
func when(t *timestamppb.Timestamp) string {
	if t == nil {
		return "—"
	}
	return t.AsTime().UTC().Format("2 Jan 15:04:05")
}

// exactly is a time for machines and for the hint under the pointer.
func exactly(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().UTC().Format(time.RFC3339Nano)
}

// number writes a count of any integer type with its thousands apart: 12 345.
func number(n any) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

func size(n uint64) string {
	value, unit := float64(n), 0
	for value >= 1000 && unit < 4 {
		value, unit = value/1000, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %cB", value, " kMGT"[unit])
}

// tone is the colour of a verdict, from what it does to the permission.
func tone(v string) string {
	effect, known := verdict.Effects[v]
	switch {
	case !known:
		return "quiet"
	case v == verdict.GivenUp, effect == verdict.Voids:
		return "bad"
	case effect == verdict.Spends:
		return "good"
	case effect == verdict.Clouds, effect == verdict.Releases:
		return "wait"
	}
	return "quiet"
}

var steps = map[alertv1.StepKind]string{
	alertv1.StepKind_STEP_KIND_OPTED_IN:    "Opted in",
	alertv1.StepKind_STEP_KIND_TAGGED:      "Tagged",
	alertv1.StepKind_STEP_KIND_STOPPED:     "Stopped or resumed",
	alertv1.StepKind_STEP_KIND_CHOSEN:      "Chosen by an alert",
	alertv1.StepKind_STEP_KIND_PASSED_OVER: "Passed over by an alert",
	alertv1.StepKind_STEP_KIND_GRANTED:     "Permission granted to a send",
	alertv1.StepKind_STEP_KIND_ATTEMPTED:   "Platform called",
	alertv1.StepKind_STEP_KIND_SETTLED:     "Settled",
	alertv1.StepKind_STEP_KIND_DELIVERED:   "Delivered",
	alertv1.StepKind_STEP_KIND_READ:        "Read",
	alertv1.StepKind_STEP_KIND_GIVEN_UP:    "Given up",
}

// step is what happened, in words.
func step(k alertv1.StepKind) string {
	if w, ok := steps[k]; ok {
		return w
	}
	return "Something this console does not know (" + k.String() + ")"
}
