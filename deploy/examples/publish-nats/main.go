// Command publish-nats publishes one inventory event, as an inventory system does, and waits until it is stored:
//
//	publish-nats nats://127.0.0.1:4222 inventory.stock.RAD-SHIRT-M '{"event_id":"1","sku":"RAD-SHIRT-M","stock":{"available":80}}'
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: publish-nats URL SUBJECT JSON")
		os.Exit(2)
	}
	if err := publish(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "publish-nats:", err)
		os.Exit(1)
	}
}

func publish(url, subject, event string) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	ack, err := js.Publish(ctx, subject, []byte(event))
	if err != nil {
		return err
	}
	fmt.Printf("stored in %s as %d\n", ack.Stream, ack.Sequence)
	return nil
}
