package token_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onebell/onebell/pkg/testkit"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/topology"
)

// says publishes a message of a person as the ingestor does.
func (w *world) says(psid, mid, text string, at time.Time) {
	w.t.Helper()
	body := fmt.Sprintf(`{"sender":{"id":%q},"recipient":{"id":%q},"timestamp":%d,"message":{"mid":%q,"text":%q}}`, psid, page, at.UnixMilli(), mid, text)
	w.event(psid, "message", "message:"+page+":"+mid, body)
}

func (w *world) event(psid, kind, id, body string) {
	w.t.Helper()
	w.publish(topology.EventSubject(page, psid, kind), id, []byte(body), psid, kind)
}

// facts is how many messages a stream holds on a subject.
func (w *world) facts(stream, subject string) (n uint64) {
	w.t.Helper()
	s, err := w.js.Stream(w.t.Context(), stream)
	if err != nil {
		w.t.Fatal(err)
	}
	info, err := s.Info(w.t.Context(), jetstream.WithSubjectFilter(subject))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, held := range info.State.Subjects {
		n += held
	}
	return n
}

// worked waits until every event published so far is worked.
func (w *world) worked() {
	w.t.Helper()
	w.settled(topology.Events)
}

func (w *world) settled(stream string) {
	w.t.Helper()
	testkit.Eventually(w.t, stream+" is worked", func() bool {
		c, err := w.js.Consumer(w.t.Context(), stream, "token")
		if err != nil {
			return false
		}
		info, err := c.Info(w.t.Context())
		return err == nil && info.NumPending == 0 && info.NumAckPending == 0
	})
}

func (w *world) stopped(psid string) bool {
	w.t.Helper()
	p, err := w.client.GetPerson(w.t.Context(), &tokenv1.GetPersonRequest{PageId: page, Psid: psid})
	if err != nil {
		w.t.Fatal(err)
	}
	return p.GetPerson().GetStopped()
}

func TestStopWordsStopAndResumeWordsResume(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := w.start()
	w.optin("1", "t1", "stock:A")
	w.optin("2", "t2", "stock:A")
	w.eventually("stock:A", 2, 0, 0, 0, 0, 0, 0)
	now := time.Now().Add(-time.Minute)

	w.says("1", "m1", "when does the sale stop?", now)
	w.says("1", "m2", "Arrêt !", now.Add(time.Second))
	w.eventually("stock:A", 1, 0, 0, 0, 0, 1, 0)
	w.event("2", "postback", "pb", fmt.Sprintf(`{"sender":{"id":"2"},"timestamp":%d,"postback":{"payload":"STOP_NOTIFICATIONS"}}`, now.UnixMilli()))
	w.eventually("stock:A", 0, 0, 0, 0, 0, 2, 0)
	w.says("1", "m3", "start", now.Add(2*time.Second))
	w.eventually("stock:A", 1, 0, 0, 0, 0, 1, 0)
	if w.stopped("1") || !w.stopped("2") {
		t.Error("the wrong person is stopped")
	}

	// The same once more, and an earlier one that is late, change nothing, even when JetStream no longer knows their ids.
	before := w.facts(topology.People, "people.>")
	for i, m := range []struct {
		text string
		at   time.Time
	}{{"Arrêt !", now.Add(time.Second)}, {"start", now.Add(2 * time.Second)}, {"stop", now.Add(1500 * time.Millisecond)}} {
		w.says("1", fmt.Sprint("again-", i), m.text, m.at)
	}
	w.worked()
	if w.stopped("1") || w.facts(topology.People, "people.>") != before {
		t.Error("repeated or late words changed something")
	}
	// An operator's word is later than what was said before it.
	if _, err := w.client.StopPerson(t.Context(), &tokenv1.StopPersonRequest{PageId: page, Psid: "1"}); err != nil {
		t.Fatal(err)
	}
	w.says("1", "late", "start", now.Add(3*time.Second))
	w.worked()
	if !w.stopped("1") {
		t.Error("a late start undid an operator's stop")
	}

	stop()
	if err := w.rdb.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.eventually("stock:A", 0, 0, 0, 0, 0, 2, 0)
	w.says("1", "late-again", "start", now.Add(3*time.Second))
	w.worked()
	if !w.stopped("1") || !w.stopped("2") {
		t.Error("a rebuild forgot who is stopped")
	}
}

// Recurring notifications have tokens of their own: to stop them is no word about permissions for one message.
func TestStoppedRecurringNotificationsStopNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.optin("1", "t1", "stock:A")
	w.eventually("stock:A", 1, 0, 0, 0, 0, 0, 0)
	w.event("1", "optin", "rn", `{"sender":{"id":"1"},"timestamp":1782900000000,"optin":{"type":"notification_messages","payload":"STOP",`+
		`"notification_messages_token":"n","notification_messages_status":"STOP_NOTIFICATIONS"}}`)
	w.worked()
	w.eventually("stock:A", 1, 0, 0, 0, 0, 0, 0)
	if w.facts(topology.People, "people.>") != 0 {
		t.Error("something was said about the person")
	}
}
