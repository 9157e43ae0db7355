package rig

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// Optin is the element of a webhook that a tap on Notify me makes.
func Optin(page, psid, token, payload string) json.RawMessage {
	return element(page, psid, "optin", map[string]any{"type": "one_time_notif_req", "payload": payload, "one_time_notif_token": token})
}

// Postback is the element of a webhook that a tap on a button makes.
func Postback(page, psid, mid, payload string) json.RawMessage {
	return element(page, psid, "postback", map[string]any{"mid": mid, "title": "A button", "payload": payload})
}

func element(page, psid, key string, value any) json.RawMessage {
	return mustJSON(map[string]any{
		"sender": map[string]any{"id": psid}, "recipient": map[string]any{"id": page},
		"timestamp": time.Now().UnixMilli(), key: value,
	})
}

// Body is a webhook body with one entry.
func Body(page string, elements ...json.RawMessage) []byte {
	return mustJSON(map[string]any{"object": "page", "entry": []any{
		map[string]any{"id": page, "time": time.Now().UnixMilli(), "messaging": elements},
	}})
}

func mustJSON(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("rig: %v", err)) // a test wrote something that is no JSON
	}
	return text
}

// Post posts a body to the webhook under a signature (empty: none) and gives the status of the answer.
func (s *System) Post(body []byte, signature string) int {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.Addr.Webhook, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if signature != "" {
		req.Header.Set("X-Hub-Signature-256", signature)
	}
	status, _ := s.do(req)
	return status
}

// Webhook posts elements of a page, signed, as the platform does: what is not answered 200 is sent again.
func (s *System) Webhook(p Page, elements ...json.RawMessage) {
	s.t.Helper()
	body := Body(p.ID, elements...)
	Eventually(s.t, "webhook answered 200", func() bool { return s.Post(body, p.Sign(body)) == http.StatusOK })
}

// Tap records that a person taps Notify me, and waits until the permission is known.
func (s *System) Tap(p Page, psid, token, payload string) {
	s.t.Helper()
	s.Webhook(p, Optin(p.ID, psid, token, payload))
	s.AwaitPermission(p, psid, token)
}

// Like taps a button that tags the person, and waits until the tag is known.
func (s *System) Like(p Page, psid, tag string) {
	s.t.Helper()
	s.Webhook(p, Postback(p.ID, psid, "m_like-"+psid+"-"+tag, "LIKES:"+tag))
	Eventually(s.t, psid+" is tagged "+tag, func() bool { return slices.Contains(s.Person(p, psid).GetTags(), tag) })
}

// Crowd taps Notify me for n people on one payload. Their psids and tokens are prefix-0, prefix-1 and so on.
func (s *System) Crowd(p Page, prefix string, n int, topic string) {
	s.t.Helper()
	var elements []json.RawMessage
	for i := range n {
		name := fmt.Sprintf("%s-%d", prefix, i)
		elements = append(elements, Optin(p.ID, name, Token(name), topic))
	}
	before := s.Count(p.ID, topic).GetWaiting()
	s.Webhook(p, elements...)
	Eventually(s.t, fmt.Sprintf("%d people wait for %s", n, topic), func() bool {
		return s.Count(p.ID, topic).GetWaiting() == before+int64(n)
	})
}

func (s *System) do(req *http.Request) (status int, body []byte) {
	s.t.Helper()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err = io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, body
}

// Get fetches an address and gives status and body.
func (s *System) Get(url string) (status int, body []byte) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.do(req)
}
