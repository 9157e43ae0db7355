package platform

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// world has a person with a token on page 1, and another page.
func world() *World {
	w := NewWorld(DefaultSwitches())
	n := 0
	w.ids = func(prefix string) string { n++; return fmt.Sprint(prefix, n) }
	w.AddPerson("1", "ana", "Ana", "fr_FR", noon)
	w.Restore("t", Token{PageID: "1", PSID: "ana", Payload: "stock:A", IssuedAt: noon})
	return w
}

func parse(t *testing.T, body string) Send {
	t.Helper()
	s, err := ParseSend([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTheFormOfAMessage(t *testing.T) {
	t.Parallel()
	to := func(message string) string {
		return `{"recipient":{"one_time_notif_token":"t"},"message":` + message + `}`
	}
	template := func(payload string) string {
		return to(`{"attachment":{"type":"template","payload":` + payload + `}}`)
	}
	x := func(n int) string { return strings.Repeat("x", n) }
	buttons := func(n int) string {
		return "[" + strings.TrimSuffix(strings.Repeat(`{"type":"web_url","url":"https://shop.example/p","title":"Buy now"},`, n), ",") + "]"
	}
	for name, c := range map[string]struct {
		body string
		want string // the error, empty: allowed
	}{
		"text":                        {to(`{"text":"hello"}`), ""},
		"text of 1999":                {to(`{"text":"` + x(1999) + `"}`), ""},
		"text of 2000":                {to(`{"text":"` + x(2000) + `"}`), "100"},
		"nothing":                     {to(`{}`), "100/2018034"},
		"no message":                  {`{"recipient":{"id":"ana"}}`, "100/2018034"},
		"no recipient":                {`{"message":{"text":"x"}}`, "100"},
		"two recipients":              {`{"recipient":{"id":"ana","one_time_notif_token":"t"},"message":{"text":"x"}}`, "100"},
		"message and action":          {`{"recipient":{"id":"ana"},"sender_action":"typing_on","message":{"text":"x"}}`, "100/2018014"},
		"unknown action":              {`{"recipient":{"id":"ana"},"sender_action":"dance"}`, "100"},
		"metadata of 1000":            {to(`{"text":"x","metadata":"` + x(1000) + `"}`), "100"},
		"unknown type":                {`{"recipient":{"one_time_notif_token":"t"},"messaging_type":"SHOUT","message":{"text":"x"}}`, "100"},
		"a tag that was ended":        {`{"recipient":{"id":"ana"},"messaging_type":"MESSAGE_TAG","tag":"ACCOUNT_UPDATE","message":{"text":"x"}}`, "100"},
		"three buttons":               {template(`{"template_type":"button","text":"x","buttons":` + buttons(3) + `}`), ""},
		"four buttons":                {template(`{"template_type":"button","text":"x","buttons":` + buttons(4) + `}`), "100"},
		"no buttons":                  {template(`{"template_type":"button","text":"x"}`), "100"},
		"button text of 640":          {template(`{"template_type":"button","text":"` + x(640) + `","buttons":` + buttons(1) + `}`), ""},
		"button text of 641":          {template(`{"template_type":"button","text":"` + x(641) + `","buttons":` + buttons(1) + `}`), "100"},
		"button without address":      {template(`{"template_type":"button","text":"x","buttons":[{"type":"web_url","title":"Buy"}]}`), "100"},
		"button with a long title":    {template(`{"template_type":"button","text":"x","buttons":[{"type":"web_url","url":"https://a.example","title":"` + x(21) + `"}]}`), "100"},
		"card title of 65":            {template(`{"template_type":"one_time_notif_req","title":"` + x(65) + `","payload":"p"}`), ""},
		"card title of 66":            {template(`{"template_type":"one_time_notif_req","title":"` + x(66) + `","payload":"p"}`), "100"},
		"card title of 33 bells":      {template(`{"template_type":"one_time_notif_req","title":"` + strings.Repeat("🔔", 33) + `","payload":"p"}`), "100"},
		"card without payload":        {template(`{"template_type":"one_time_notif_req","title":"x"}`), "100"},
		"eleven elements":             {template(`{"template_type":"generic","elements":[` + strings.TrimSuffix(strings.Repeat(`{"title":"x"},`, 11), ",") + `]}`), "100"},
		"unknown template":            {template(`{"template_type":"hologram"}`), "100"},
		"image":                       {to(`{"attachment":{"type":"image","payload":{"url":"https://shop.example/a.jpg"}}}`), ""},
		"image without address":       {to(`{"attachment":{"type":"image","payload":{}}}`), "100/2018008"},
		"fourteen quick replies":      {to(`{"text":"x","quick_replies":[` + strings.TrimSuffix(strings.Repeat(`{"content_type":"text","title":"x","payload":"p"},`, 14), ",") + `]}`), "100"},
		"text and attachment at once": {to(`{"text":"x","attachment":{"type":"image","payload":{"url":"https://shop.example/a.jpg"}}}`), "100"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := world().Judge("1", parse(t, c.body), noon)
			if got := codeOf(err); got != c.want {
				t.Errorf("error %q, want %q (%v)", got, c.want, err)
			}
		})
	}
}

func codeOf(e *Error) string {
	if e == nil {
		return ""
	}
	return ErrorCode{e.Code, e.Subcode}.String()
}

const (
	byToken = `{"recipient":{"one_time_notif_token":"t"},"message":{"text":"x"}}`
	byID    = `{"recipient":{"id":"ana"},"messaging_type":"RESPONSE","message":{"text":"x"}}`
	byAgent = `{"recipient":{"id":"ana"},"messaging_type":"MESSAGE_TAG","tag":"HUMAN_AGENT","message":{"text":"x"}}`
)

func TestWhoMayBeToldWhen(t *testing.T) {
	t.Parallel()
	type act = func(*World)
	nothing := func(*World) {}
	typed := func(w *World) { _, _ = w.Type("1", "ana", "hi", "", noon) }
	spent := func(w *World) { w.RestoreSpent("t", "m", noon) }
	tapOpens := func(w *World) {
		w.Switches.TapOpensWindow = true
		w.Tap(nil, "t2", Token{PageID: "1", PSID: "ana", Payload: "x", IssuedAt: noon})
	}
	for name, c := range map[string]struct {
		before act
		page   string
		body   string
		after  time.Duration
		want   string
	}{
		"a token":                         {nothing, "1", byToken, 0, ""},
		"a token on its last day":         {nothing, "1", byToken, TokenLife - time.Second, ""},
		"a token after a year":            {nothing, "1", byToken, TokenLife, "100"},
		"a spent token":                   {spent, "1", byToken, 0, "100"},
		"a token of another page":         {nothing, "2", byToken, 0, "100"},
		"a token that never was":          {nothing, "1", strings.Replace(byToken, `"t"`, `"u"`, 1), 0, "100"},
		"spent, by a switch":              {func(w *World) { spent(w); w.Switches.SpentToken = ErrorCode{10, 2018278} }, "1", byToken, 0, "10/2018278"},
		"a token without type, by switch": {func(w *World) { w.Switches.NeedsType = true }, "1", byToken, 0, "100"},
		"an id, never heard of them":      {nothing, "1", byID, 0, "10/2018278"},
		"an id in the window":             {typed, "1", byID, Window - time.Second, ""},
		"an id after the window":          {typed, "1", byID, Window, "10/2018278"},
		"an agent within seven days":      {typed, "1", byAgent, HumanWindow - time.Second, ""},
		"an agent after seven days":       {typed, "1", byAgent, HumanWindow, "10/2018278"},
		"a tap opens no window":           {func(w *World) { w.Tap(nil, "t2", Token{PageID: "1", PSID: "ana", IssuedAt: noon}) }, "1", byID, 0, "10/2018278"},
		"a tap opens it, by a switch":     {tapOpens, "1", byID, 0, ""},
		"an id of another page":           {typed, "2", byID, 0, "100/2018001"},
		"a person who blocks":             {func(w *World) { w.Person("1", "ana").Blocked = true }, "1", byToken, 0, "551"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world()
			c.before(w)
			_, _, err := w.Judge(c.page, parse(t, c.body), noon.Add(c.after))
			if got := codeOf(err); got != c.want {
				t.Errorf("error %q, want %q (%v)", got, c.want, err)
			}
		})
	}
}

func TestATokenGivesOneMessage(t *testing.T) {
	t.Parallel()
	w := world()
	s := parse(t, byToken)
	plan, _, err := w.Judge("1", s, noon)
	if err != nil {
		t.Fatal(err)
	}
	hooks := w.Commit(plan, noon)
	if len(hooks) != 2 || hooks[0].Field != "message_echoes" || hooks[1].Field != "message_deliveries" {
		t.Errorf("webhooks = %+v, want an echo and a delivery", hooks)
	}
	if _, _, err := w.Judge("1", s, noon); codeOf(err) != "100" {
		t.Errorf("the second time: %v, want 100", err)
	}
	said := w.Conversation("1", "ana")
	if len(said) != 1 || !said[0].ByToken || said[0].Text != "x" {
		t.Errorf("conversation = %+v", said)
	}
	if got := w.CountTokens("1", noon); got != (TokenCount{Spent: 1}) {
		t.Errorf("tokens = %+v", got)
	}
}

func TestAFailureSpendsOnlyByASwitch(t *testing.T) {
	t.Parallel()
	for _, spends := range []bool{false, true} {
		w := world()
		w.Switches.FailureSpends = spends
		w.Person("1", "ana").Blocked = true
		if _, burn, err := w.Judge("1", parse(t, byToken), noon); burn != spends || codeOf(err) != "551" {
			t.Errorf("switch %v: burn %v, error %v", spends, burn, err)
		}
	}
}

func TestACardIsTappedOnce(t *testing.T) {
	t.Parallel()
	w := world()
	if _, err := w.Type("1", "ana", "hi", "", noon); err != nil {
		t.Fatal(err)
	}
	plan, _, refused := w.Judge("1", parse(t, `{"recipient":{"id":"ana"},"message":{"attachment":{"type":"template","payload":{"template_type":"one_time_notif_req","title":"Shirt","payload":"stock:S"}}}}`), noon)
	if refused != nil {
		t.Fatal(refused)
	}
	w.Commit(plan, noon)
	card, err := w.FindCard("1", "ana", "", "stock:S")
	if err != nil {
		t.Fatal(err)
	}
	token, tk := w.NewToken("1", "ana", "stock:S", noon)
	w.Tap(card, token, tk)
	if _, err := w.FindCard("1", "ana", plan.MessageID, ""); !errors.Is(err, ErrTapped) {
		t.Errorf("tapped again: %v, want %v", err, ErrTapped)
	}
	w.Switches.TapTwice = true
	if _, err := w.FindCard("1", "ana", plan.MessageID, ""); err != nil {
		t.Errorf("tapped again, by a switch: %v", err)
	}
	if got := fmt.Sprint(w.Asked("1", "ana", noon)); got != "[stock:A stock:S]" {
		t.Errorf("asked = %s", got)
	}
}

func TestRates(t *testing.T) {
	t.Parallel()
	w := world()
	s := parse(t, byToken)
	l := Limits{TextPerSecond: 3, MediaPerSecond: 1, ThrottleError: ErrorCode{Code: 80006}, RegainMinutes: 2}
	for i, c := range []struct {
		at   time.Duration
		want string
	}{
		{0, ""},
		{300 * time.Millisecond, ""},
		{600 * time.Millisecond, ""},
		{1100 * time.Millisecond, ""},          // the first is over a second ago
		{1200 * time.Millisecond, "80006"},     // the fourth within a second
		{2*time.Minute + time.Second, "80006"}, // still refused, and longer for having called
		{4 * time.Minute, "80006"},
		{6*time.Minute + time.Second, ""},
	} {
		usage, err := w.Count("1", s, l, noon.Add(c.at))
		if got := codeOf(err); got != c.want {
			t.Errorf("call %d at %s: %q, want %q", i, c.at, got, c.want)
		}
		if header := usage.Header("1"); err != nil && !strings.Contains(header, `"estimated_time_to_regain_access":2`) {
			t.Errorf("call %d: header %q does not say when access is regained", i, header)
		}
	}
	if _, err := w.Count("2", s, l, noon.Add(1200*time.Millisecond)); err != nil {
		t.Errorf("another page is refused too: %v", err)
	}
	if quiet := (Usage{Percent: 10}).Header("1"); quiet != "" {
		t.Errorf("a page that is not busy has usage %q", quiet)
	}
}

func TestErrorsHaveThePlatformsForm(t *testing.T) {
	t.Parallel()
	if len(documented) < 50 {
		t.Fatalf("%d documented errors", len(documented))
	}
	for code, e := range documented {
		var body struct {
			Error struct {
				Message, Type, Trace string
				Code                 int
				Subcode              int `json:"error_subcode"`
			}
		}
		if err := json.Unmarshal(e.Body("Fx1"), &body); err != nil {
			t.Fatal(err)
		}
		if body.Error.Code != code.Code || body.Error.Subcode != code.Subcode || body.Error.Message == "" || e.Status < 400 {
			t.Errorf("%s: %d %s", code, e.Status, e.Body("Fx1"))
		}
	}
	want := `{"error":{"message":"(#613) Calls to this api have exceeded the rate limit.","type":"OAuthException","code":613,"is_transient":true,"fbtrace_id":"Fx613"}}`
	if got := string(Documented(ErrorCode{Code: 613}).Body("Fx613")); got != want {
		t.Errorf("613 = %s\nwant  %s", got, want)
	}
	if got := Documented(ErrorCode{551, 77}); got.Code != 551 || got.Subcode != 77 {
		t.Errorf("an undocumented subcode: %+v", got)
	}
}

func TestOptInHasTheDocumentedForm(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1782900000000)
	got := OptinHook("otn-fx-6f1c2a9d0b", Token{PageID: "104200000000017", PSID: "7300000000000421", Payload: "price:café/1?below=49.90%20EUR"}, at)
	want := `{"object":"page","entry":[{"id":"104200000000017","time":1782900000000,"messaging":[{"sender":{"id":"7300000000000421"},` +
		`"recipient":{"id":"104200000000017"},"timestamp":1782900000000,"optin":{"type":"one_time_notif_req",` +
		`"payload":"price:caf\u00e9\/1?below=49.90%20EUR","one_time_notif_token":"otn-fx-6f1c2a9d0b"}}]}]}`
	if string(got.Body) != want {
		t.Errorf("got  %s\nwant %s", got.Body, want)
	}
	if got := string(escape([]byte(`"💚"`))); got != `"\ud83d\udc9a"` {
		t.Errorf("escape = %s", got)
	}
}
