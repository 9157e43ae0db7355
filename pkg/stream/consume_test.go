package stream_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/onebell/onebell/pkg/embed"
	"github.com/onebell/onebell/pkg/fault"
	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/pkg/testkit"
)

func TestAConsumerThatSomebodyDeletedIsMadeAnew(t *testing.T) {
	t.Parallel()
	_, js := testkit.JetStream(t, []jetstream.StreamConfig{{Name: "LETTERS", Subjects: []string{"letters"}, Retention: jetstream.WorkQueuePolicy}})
	worked := make(chan string, 4)
	c := stream.Consumer{
		Stream: "LETTERS", Durable: "desk", DeadSubject: "dead", Log: testkit.Log(t),
		Handle: func(_ context.Context, msg jetstream.Msg) error {
			worked <- string(msg.Data())
			return nil
		},
	}
	testkit.Run(t, "consumer", func(ctx context.Context) error { return c.Run(ctx, js) })
	send := func(text string) {
		t.Helper()
		if _, err := js.Publish(t.Context(), "letters", []byte(text)); err != nil {
			t.Fatal(err)
		}
		for <-worked != text { // one whose acknowledgement was on its way may come twice
		}
	}
	send("one")
	if err := js.DeleteConsumer(t.Context(), "LETTERS", "desk"); err != nil {
		t.Fatal(err)
	}
	send("two")
}

// A publisher's own conditions for storing a message are not those of the dead letters: they would refuse it for ever.
func TestALetterIsBuriedWhateverItsPublisherAskedOfTheServer(t *testing.T) {
	t.Parallel()
	_, js := testkit.JetStream(t, []jetstream.StreamConfig{
		{Name: "LETTERS", Subjects: []string{"letters"}}, {Name: "DEAD", Subjects: []string{"dead.*"}},
	})
	c := stream.Consumer{
		Stream: "LETTERS", Durable: "desk", DeadSubject: "dead.letters", Log: testkit.Log(t),
		Handle: func(context.Context, jetstream.Msg) error {
			return fault.New(fault.Invalid, "unreadable", errors.New("no words"))
		},
	}
	msg := nats.NewMsg("letters")
	msg.Header.Set("Trace", "kept")
	if _, err := js.PublishMsg(t.Context(), msg, jetstream.WithExpectStream("LETTERS"), jetstream.WithExpectLastSequence(0), jetstream.WithMsgID("one")); err != nil {
		t.Fatal(err)
	}
	testkit.Run(t, "consumer", func(ctx context.Context) error { return c.Run(ctx, js) })
	dead, err := js.Stream(t.Context(), "DEAD")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "dead.other", nil); err != nil { // the dead letters are not at sequence 0
		t.Fatal(err)
	}
	testkit.Eventually(t, "the letter is among the dead", func() bool {
		letter, err := dead.GetLastMsgForSubject(t.Context(), "dead.letters")
		return err == nil && letter.Header.Get("Trace") == "kept" && letter.Header.Get(stream.HeaderReason) == "unreadable"
	})
}

func TestALetterThatLeavesNoRoomForTheReasonIsBuriedWithoutItsEnd(t *testing.T) {
	t.Parallel()
	_, js := testkit.JetStream(t, []jetstream.StreamConfig{{Name: "DEAD", Subjects: []string{"dead.*"}}})
	body := make([]byte, embed.MaxPayload-100)
	if err := stream.Bury(t.Context(), js, "dead.letters", "letters", nil, body, "unreadable", "no words"); err != nil {
		t.Fatal(err)
	}
	dead, err := js.Stream(t.Context(), "DEAD")
	if err != nil {
		t.Fatal(err)
	}
	letter, err := dead.GetLastMsgForSubject(t.Context(), "dead.letters")
	if err != nil {
		t.Fatal(err)
	}
	if detail := letter.Header.Get(stream.HeaderDetail); len(letter.Data) < len(body)*9/10 || !strings.Contains(detail, "without the last") || !strings.Contains(detail, "no words") {
		t.Errorf("%d of %d bytes, detail %q", len(letter.Data), len(body), detail)
	}
}

func TestAPanicAtOneMessageHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	_, js := testkit.JetStream(t, []jetstream.StreamConfig{{Name: "LETTERS", Subjects: []string{"letters"}}})
	worked := make(chan string, 4)
	c := stream.Consumer{
		Stream: "LETTERS", Durable: "desk", DeadSubject: "dead.letters", Log: slog.New(slog.DiscardHandler),
		Handle: func(_ context.Context, msg jetstream.Msg) error {
			if string(msg.Data()) == "bad" {
				panic("a mistake of ours")
			}
			worked <- string(msg.Data())
			return nil
		},
	}
	testkit.Run(t, "consumer", func(ctx context.Context) error { return c.Run(ctx, js) })
	for _, text := range []string{"bad", "good"} {
		if _, err := js.Publish(t.Context(), "letters", []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-worked; got != "good" {
		t.Errorf("worked %q", got)
	}
}
