package ingestor_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/pkg/testkit"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/ingestor"
)

// As telemetry.Start does in a program.
func TestMain(m *testing.M) {
	otel.SetTextMapPropagator(propagation.TraceContext{})
	otel.SetTracerProvider(trace.NewTracerProvider())
	os.Exit(m.Run())
}

const (
	page = "104200000000017"

	person = "7300000000000421" // in shard 16
)

const pagesFile = `pages:
  - {id: "104200000000017", access_token: t1, app_secrets: [new-secret, old-secret], verify_token: verify-1}
  - {id: "104200000000025", access_token: t2, app_secrets: [new-secret], verify_token: verify-2}
  - {id: "104200000000099", access_token: t3, app_secrets: [foreign-secret]}
`

// start runs an ingestor against a NATS server and gives the address of its webhook.
func start(t *testing.T, natsURL string) (url string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pages.yaml")
	if err := os.WriteFile(file, []byte(pagesFile), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := ingestor.Config{Settings: stream.Settings{NATSURL: natsURL, Replicas: 1}, PagesFile: file, Listener: ln}
	p := testkit.Process(t)
	testkit.Run(t, "ingestor", func(ctx context.Context) error { return ingestor.Run(ctx, cfg, p) })
	return "http://" + ln.Addr().String() + "/webhook"
}

// house is an ingestor with a NATS server of its own.
func house(t *testing.T) (url string, js jetstream.JetStream) {
	t.Helper()
	natsURL, js := testkit.JetStream(t, topology.Configs(1))
	url = start(t, natsURL)
	testkit.Eventually(t, "the ingestor stores", func() bool { return post(t, url, []byte(`{}`)).status == 200 })
	return url, js
}

func sign(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

type reply struct {
	status int
	header http.Header
	body   string
}

func do(t *testing.T, r *http.Request) reply {
	t.Helper()
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Error(err)
		return reply{}
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	return reply{res.StatusCode, res.Header, string(text)}
}

// post posts a body as the platform does.
func post(t *testing.T, url string, body []byte) reply {
	t.Helper()
	return postSigned(t, url, body, "new-secret")
}

func postSigned(t *testing.T, url string, body []byte, secret string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Hub-Signature-256", sign(secret, body))
	return do(t, r)
}

func count(t *testing.T, js jetstream.JetStream, name string) uint64 {
	t.Helper()
	s, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Msgs
}

// stored reads all of a stream.
func stored(t *testing.T, js jetstream.JetStream, name string) []*jetstream.RawStreamMsg {
	t.Helper()
	s, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all []*jetstream.RawStreamMsg
	for seq := max(info.State.FirstSeq, 1); seq <= info.State.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func fixture(t *testing.T, path string) []byte {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", path))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// fixtures lists the messages of each file as "subject person": "~" stands for the usual page and shard, "-" for no person,
// and where none is given it is the usual one.
var fixtures = map[string][]string{
	"account_linking_linked":                       {"events~account_linking"},
	"account_linking_unlinked":                     {"events~account_linking"},
	"batch_two_entries_two_pages":                  {"events~message", "events.104200000000025.13.message 7300000000000538"},
	"batch_two_events_one_entry":                   {"events~message", "optins~"},
	"changes_dashboard_test_button":                {"events.0.--.change -"},
	"changes_feed_event":                           {"events.104200000000017.--.change -"},
	"changes_marketing_message_delivery_failed":    {"events.104200000000017.--.change -"},
	"delivery_mids":                                {"events~delivery"},
	"delivery_old_seq":                             {"events~delivery"},
	"delivery_watermark_only":                      {"events~delivery"},
	"duplicate_delivery_same_mid":                  {"events~message"},
	"handover_app_roles":                           {"events.104200000000017.--.handover -"},
	"handover_in_messaging_handovers_array":        {"events~handover"},
	"handover_pass_from_idle":                      {"events~handover"},
	"handover_pass_thread_control":                 {"events~handover"},
	"handover_request_thread_control":              {"events~handover"},
	"handover_take_thread_control":                 {"events~handover"},
	"message_appointment_booking":                  {"events~message"},
	"message_attachment_file":                      {"events~message"},
	"message_attachment_image":                     {"events~message"},
	"message_commands":                             {"events~message"},
	"message_echo_one_time_notif_req":              {"events~echo"},
	"message_echo_page_inbox":                      {"events~echo"},
	"message_echo_template":                        {"events~echo"},
	"message_echo_text":                            {"events~echo"},
	"message_edit":                                 {"events~edit"},
	"message_fallback":                             {"events~message"},
	"message_instagram_is_deleted":                 {"events.17840000000000031.16.message"},
	"message_location_old":                         {"events~message"},
	"message_post_share":                           {"events~message"},
	"message_product_template":                     {"events~message"},
	"message_quick_reply":                          {"events~message"},
	"message_reel_share":                           {"events~message"},
	"message_referral_ad":                          {"events~message"},
	"message_referral_shop_product":                {"events~message"},
	"message_reply_to":                             {"events~message"},
	"message_sticker_like_old":                     {"events~message"},
	"message_sticker_transition":                   {"events~message"},
	"message_text":                                 {"events~message"},
	"message_text_escaped_unicode":                 {"events~message"},
	"optin_checkbox_user_ref":                      {"events.104200000000017.--.optin -"},
	"optin_notification_messages":                  {"events~optin"},
	"optin_notification_messages_legacy_frequency": {"events~optin"},
	"optin_notification_messages_refreshed":        {"events~optin"},
	"optin_notification_messages_resume":           {"events~optin"},
	"optin_notification_messages_stop":             {"events~optin"},
	"optin_one_time_notif_req":                     {"optins~"},
	"optin_one_time_notif_req_json_payload":        {"optins~"},
	"optin_send_to_messenger":                      {"events~optin"},
	"policy_enforcement_block":                     {"events.104200000000017.--.policy -"},
	"policy_enforcement_hyphen_key_old":            {"events.104200000000017.--.policy -"},
	"policy_enforcement_unblock":                   {"events.104200000000017.--.policy -"},
	"policy_enforcement_warning":                   {"events.104200000000017.--.policy -"},
	"postback_button":                              {"events~postback"},
	"postback_get_started_referral":                {"events~postback"},
	"postback_no_mid_old":                          {"events~postback"},
	"postback_user_ref":                            {"events.104200000000017.--.postback -"},
	"reaction_react":                               {"events~reaction"},
	"reaction_unreact":                             {"events~reaction"},
	"read":                                         {"events~read"},
	"referral_ad":                                  {"events~referral"},
	"referral_lead_complete_seconds":               {"events~referral"},
	"referral_mme_link":                            {"events~referral"},
	"referral_no_source":                           {"events~referral"},
	"response_feedback":                            {"events~feedback"},
	"send_cart_order":                              {"events~order"},
	"standby_message":                              {"events~standby"},
	"standby_postback_without_payload":             {"events~standby"},
	"unknown_event":                                {"events~unknown"},
	"unknown_optin_type":                           {"events~optin"},
}

// Every kind of event that is known comes in, is answered 200, and stands in its stream whole.
func TestFixtures(t *testing.T) {
	t.Parallel()
	url, js := house(t)
	files, err := filepath.Glob("testdata/webhooks/*.json")
	if err != nil || len(files) != len(fixtures) {
		t.Fatalf("%d files, %d expected: %v", len(files), len(fixtures), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		optins, events := count(t, js, topology.Optins), count(t, js, topology.Events)
		body := fixture(t, "webhooks/"+name+".json")
		if r := post(t, url, body); r.status != 200 {
			t.Fatalf("%s: %d %s", name, r.status, r.body)
		}
		got := slices.Concat(stored(t, js, topology.Events)[events:], stored(t, js, topology.Optins)[optins:])
		var lines, want []string
		for _, m := range got {
			lines = append(lines, m.Subject+" "+cmp.Or(m.Header.Get("Onebell-Person"), "-"))
			if !bytes.Contains(body, m.Data) {
				t.Errorf("%s: the body was changed: %s", name, m.Data)
			}
		}
		for _, w := range fixtures[name] {
			subject, who, _ := strings.Cut(w, " ")
			subject = strings.TrimSuffix(strings.Replace(subject, "~", ".104200000000017.16.", 1), ".")
			want = append(want, subject+" "+cmp.Or(who, person))
		}
		if !slices.Equal(lines, want) {
			t.Errorf("%s: %q, expected %q", name, lines, want)
		}
	}
	if n := count(t, js, topology.Dead); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

func TestBadFixtures(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct{ reason, subject string }{
		"empty_entry":             {},
		"entry_without_messaging": {},
		"event_without_recipient": {subject: "events.104200000000017.16.message"},
		"messaging_empty":         {},
		"no_entry":                {},
		"not_page_object":         {},
		"optin_otn_null_payload":  {subject: "optins.104200000000017.16"},
		"optin_otn_without_token": {subject: "events.104200000000017.16.optin"},
		"trailing_comma":          {reason: "bad_json"},
		"truncated":               {reason: "bad_json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, js := house(t)
			body := fixture(t, "webhooks_bad/"+name+".json")
			if r := post(t, url, body); r.status != 200 {
				t.Fatalf("%d %s", r.status, r.body)
			}
			var subjects []string
			for _, m := range slices.Concat(stored(t, js, topology.Optins), stored(t, js, topology.Events)) {
				subjects = append(subjects, m.Subject)
			}
			if got := strings.Join(subjects, " "); got != want.subject {
				t.Errorf("stored on %q, expected %q", got, want.subject)
			}
			dead := stored(t, js, topology.Dead)
			if want.reason == "" {
				if len(dead) != 0 {
					t.Errorf("dead letter %q", dead[0].Header)
				}
				return
			}
			if len(dead) != 1 {
				t.Fatalf("%d dead letters", len(dead))
			}
			h := dead[0].Header
			if dead[0].Subject != "dead.webhooks" || h.Get("Onebell-Reason") != want.reason || h.Get("Onebell-Detail") == "" ||
				h.Get("Onebell-Subject") == "" || h.Get("Onebell-Failed-At") == "" || !bytes.Equal(dead[0].Data, body) {
				t.Errorf("%s %q", dead[0].Subject, h)
			}
		})
	}
}

// The headers of the contract, to the letter.
func TestHeaders(t *testing.T) {
	t.Parallel()
	url, js := house(t)
	before := time.Now().Add(-time.Millisecond)
	post(t, url, fixture(t, "webhooks/batch_two_events_one_entry.json"))
	post(t, url, []byte(`{"entry":[{"standby":[{ "x" : 1.0 }]}]}`))
	optin, events := stored(t, js, topology.Optins)[0], stored(t, js, topology.Events)
	for _, c := range []struct {
		msg  *jetstream.RawStreamMsg
		want map[string]string
		body string
	}{
		{optin, map[string]string{
			"Nats-Msg-Id": "otn:104200000000017:otn-fx-b-3", "Onebell-Page": page, "Onebell-Person": person, "Onebell-Kind": "optin",
			"Onebell-Field": "messaging", "Onebell-Entry-Time": "2026-07-01T10:00:00.350Z",
		}, ""},
		{events[0], map[string]string{
			"Nats-Msg-Id": "message:104200000000017:m_fx-b-3", "Onebell-Page": page, "Onebell-Person": person, "Onebell-Kind": "message",
			"Onebell-Field": "messaging", "Onebell-Entry-Time": "2026-07-01T10:00:00.350Z",
		}, ""},
		{events[1], map[string]string{
			// printf '{"x":1.0}' | sha256sum
			"Nats-Msg-Id":  "standby:none:bf32f56236899e13ef54db875d136c6cbcc65244464829c54911aa9069b0ae25",
			"Onebell-Page": "none", "Onebell-Person": "", "Onebell-Kind": "standby", "Onebell-Field": "standby",
		}, `{ "x" : 1.0 }`},
	} {
		h := c.msg.Header
		received, err := time.Parse("2006-01-02T15:04:05.000Z", h.Get("Onebell-Received-At"))
		if err != nil || received.Before(before) || received.After(time.Now()) {
			t.Errorf("received at %q", h.Get("Onebell-Received-At"))
		}
		if parts := strings.Split(h.Get("traceparent"), "-"); len(parts) != 4 || len(parts[1]) != 32 || strings.Trim(parts[1], "0") == "" {
			t.Errorf("traceparent %q", h.Get("traceparent"))
		}
		for name, value := range c.want {
			if h.Get(name) != value {
				t.Errorf("%s: %s is %q, expected %q", c.msg.Subject, name, h.Get(name), value)
			}
		}
		for name := range h {
			given := slices.Contains([]string{"Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp"}, name) // by the server, to readers
			if _, ok := c.want[name]; !ok && !given && name != "Onebell-Received-At" && name != "traceparent" {
				t.Errorf("%s: header %s", c.msg.Subject, name)
			}
		}
		if c.body != "" && string(c.msg.Data) != c.body {
			t.Errorf("body %s", c.msg.Data)
		}
	}
	if optin.Header.Get("traceparent") != events[0].Header.Get("traceparent") {
		t.Error("one webhook, two traces")
	}
}

func TestSignature(t *testing.T) {
	t.Parallel()
	url, js := house(t)
	body := fixture(t, "webhooks/message_text.json")
	good := sign("new-secret", body)
	for _, c := range []struct {
		name   string
		header http.Header
		status int
	}{
		{"missing", http.Header{}, 403},
		{"sha1 only", http.Header{"X-Hub-Signature": {"sha1=" + good[7:47]}}, 403},
		{"wrong", http.Header{"X-Hub-Signature-256": {sign("wrong", body)}}, 403},
		{"upper-case", http.Header{"X-Hub-Signature-256": {"sha256=" + strings.ToUpper(good[7:])}}, 403},
		{"truncated", http.Header{"X-Hub-Signature-256": {good[:70]}}, 403},
		{"doubled", http.Header{"X-Hub-Signature-256": {good, good}}, 403},
		{"old secret", http.Header{"X-Hub-Signature-256": {sign("old-secret", body)}}, 200},
		{"current secret", http.Header{"X-Hub-Signature-256": {good}}, 200},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = c.header
		if got := do(t, r); got.status != c.status {
			t.Errorf("%s: %d", c.name, got.status)
		}
		if n := count(t, js, topology.Events); c.status == 403 && n != 0 {
			t.Fatalf("%s: %d stored", c.name, n)
		}
	}
	if n, dead := count(t, js, topology.Events), count(t, js, topology.Dead); n != 1 || dead != 0 {
		t.Errorf("%d events, %d dead letters", n, dead)
	}
}

// One app may not speak for another's page; what else is in the body is stored.
func TestWrongApp(t *testing.T) {
	t.Parallel()
	url, js := house(t)
	body := fixture(t, "webhooks/batch_two_entries_two_pages.json")
	if r := postSigned(t, url, body, "foreign-secret"); r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if n := count(t, js, topology.Events); n != 0 {
		t.Errorf("%d events stored", n)
	}
	// The old secret is listed by the first page only.
	if r := postSigned(t, url, body, "old-secret"); r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	events, dead := stored(t, js, topology.Events), stored(t, js, topology.Dead)
	if len(events) != 1 || events[0].Header.Get("Onebell-Page") != page {
		t.Errorf("%d events stored", len(events))
	}
	if len(dead) != 1 || dead[0].Header.Get("Onebell-Reason") != "wrong_app" || !bytes.Equal(dead[0].Data, body) {
		t.Errorf("%d dead letters", len(dead))
	}
}

// Repeats, and ids that no subject can hold.
func TestStoredOnce(t *testing.T) {
	t.Parallel()
	url, js := house(t)
	for range 3 {
		post(t, url, fixture(t, "webhooks/batch_two_events_one_entry.json"))
	}
	if optins, events := count(t, js, topology.Optins), count(t, js, topology.Events); optins != 1 || events != 1 {
		t.Errorf("%d opt-ins, %d events", optins, events)
	}
	long := strings.Repeat("9", 1000)
	for _, id := range []string{"unknown.page > *", long, strings.Repeat("x", 300_000)} {
		body := fmt.Sprintf(`{"object":"page","entry":[{"id":"%s","messaging":[{"sender":{"id":"%[1]s"},"message":{"mid":"%[1]s"}}]}]}`, id)
		testkit.Eventually(t, "stored", func() bool { return post(t, url, []byte(body)).status == 200 })
	}
	events := stored(t, js, topology.Events)[1:]
	if len(events) != 3 || events[0].Subject != "events.unknown_page____.32.message" || events[0].Header.Get("Onebell-Page") != "unknown.page > *" || events[1].Header.Get("Onebell-Page") != long {
		for _, e := range events {
			t.Errorf("%s %.200q", e.Subject, e.Header)
		}
	}
}

func TestThousandsOfElements(t *testing.T) {
	t.Parallel()
	url, js := house(t)
	var elements []string
	for i := range 2000 {
		elements = append(elements, fmt.Sprintf(`{"sender":{"id":"%d"},"optin":{"type":"one_time_notif_req","one_time_notif_token":"t%d"}}`, i, i))
	}
	body := []byte(`{"object":"page","entry":[{"id":"` + page + `","messaging":[` + strings.Join(elements, ",") + `]}]}`)
	testkit.Eventually(t, "all are stored", func() bool { return post(t, url, body).status == 200 })
	if n := count(t, js, topology.Optins); n != 2000 {
		t.Errorf("%d opt-ins", n)
	}
}

func TestVerification(t *testing.T) {
	t.Parallel()
	url, _ := house(t)
	for _, c := range []struct {
		method, query string
		status        int
		body          string
	}{
		{"GET", "?hub.mode=subscribe&hub.verify_token=verify-1&hub.challenge=1158201444", 200, "1158201444"},
		{"GET", "?hub.mode=subscribe&hub.verify_token=verify-2&hub.challenge=%3Cb%3E", 200, "<b>"},
		{"GET", "?hub.mode=subscribe&hub.verify_token=verify-3&hub.challenge=1", 403, ""},
		{"GET", "?hub.mode=subscribe&hub.verify_token=&hub.challenge=1", 403, ""},
		{"GET", "?hub.mode=unsubscribe&hub.verify_token=verify-1&hub.challenge=1", 403, ""},
		{"GET", "?hub.mode=subscribe&hub.verify_token=verify-1&hub.challenge=" + strings.Repeat("1", 2000), 403, ""},
		{"GET", "", 403, ""},
		{"PUT", "", 405, ""},
		{"HEAD", "", 405, ""},
		{"POST", "/../data-deletion", 404, ""},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, url+c.query, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := do(t, r)
		if got.status != c.status || c.body != "" && got.body != c.body {
			t.Errorf("%s %.80s: %d %q", c.method, c.query, got.status, got.body)
		}
		if c.status == 200 && (!strings.HasPrefix(got.header.Get("Content-Type"), "text/plain") || got.header.Get("X-Content-Type-Options") != "nosniff") {
			t.Errorf("%q", got.header)
		}
		if c.status == 405 && got.header.Get("Allow") != "GET, POST" {
			t.Errorf("%q", got.header)
		}
	}
}

// connect gives a client of a server that comes and goes.
func connect(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}
