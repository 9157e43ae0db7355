package intake

import (
	"strings"
	"testing"

	"github.com/onebell/onebell/proto/rules"
)

func TestWhatAPersonWantsOfMessagesInGeneral(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind, text, payload, locale string
		want                        wish
	}{
		{"message", "stop", "", "", stop},
		{"message", "  STOP!! ", "", "de_DE", stop},
		{"message", "stop 🛑", "", "", stop},
		{"message", "Arrêt.", "", "fr_FR", stop},
		{"message", "arre\u0302t", "", "", stop},
		{"message", "arret", "", "fr-CA", stop},
		{"message", "« Arrêter »", "", "", stop},
		{"message", "Stopp", "", "", stop},
		{"message", "stopp", "", "nn_NO", stop},
		{"message", "ABBESTELLEN", "", "de_AT", stop},
		{"message", "opt-out", "", "", stop},
		{"message", "İPTAL değil, DURDUR", "", "tr_TR", nothing},
		{"message", "DURDUR", "", "tr_TR", stop},
		{"message", "ストップ", "", "ja_JP", stop},
		{"message", "退订", "", "", stop},
		{"message", "stop", "", "xx_XX", stop},
		{"message", "basta", "", "xx_XX", stop},
		{"message", "basta", "", "de_DE", nothing},
		{"message", "stop the sale?", "", "", nothing},
		{"message", "when does it stop", "", "", nothing},
		{"message", "", "", "", nothing},
		{"message", "!!!", "", "", nothing},
		{"message", "cancel", "", "", nothing},
		{"message", strings.Repeat(" ", 100_000) + "stop", "", "", nothing},
		{"message", "\xff\xfestop\x00", "", "", stop},
		{"postback", "", "STOP", "", stop},
		{"postback", "", "stop_notifications", "", stop},
		{"postback", "", " UNSUBSCRIBE ", "", stop},
		{"postback", "", "BUS_STOP", "", nothing},
		{"message", "Enough of this", "UNSUBSCRIBE", "", stop},
		{"message", "Stop", "QR_7", "", stop},
		{"message", "start", "", "", resume},
		{"message", "Wieder anmelden!", "", "de_DE", resume},
		{"message", "Start", "START_QUIZ", "", nothing},
		{"message", "Yes", "RESUME", "", resume},
		{"postback", "", "START", "", resume},
		{"postback", "", "GET_STARTED", "", nothing},
		{"standby", "stop", "", "", stop},
		{"standby", "start", "", "", nothing},
	} {
		if got := wishOf(Said{Event: rules.Event{Kind: c.kind, Text: c.text, Payload: c.payload}}, c.locale); got != c.want {
			t.Errorf("%s %.40q %q in %q: %v, want %v", c.kind, c.text, c.payload, c.locale, got, c.want)
		}
	}
}

func TestNoWordMeansBothInOneLanguage(t *testing.T) {
	t.Parallel()
	for language, own := range byLanguage {
		seen := map[string]bool{}
		for _, w := range append(append([]string{}, everywhere.stop...), own.stop...) {
			seen[simplify(w)] = true
			if simplify(w) == "" {
				t.Errorf("%s: %q says nothing", language, w)
			}
		}
		for _, w := range append(append([]string{}, everywhere.resume...), own.resume...) {
			if seen[simplify(w)] {
				t.Errorf("%s: %q is a stop and a resume", language, w)
			}
		}
	}
}
