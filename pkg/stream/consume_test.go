package stream_test

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

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
