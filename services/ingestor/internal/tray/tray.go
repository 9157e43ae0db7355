// Package tray is the way into JetStream: elements onto OPTINS and EVENTS, unreadable bodies into the dead letters.
// When it returns without an error, all of it is stored.
package tray

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/ingestor/internal/envelope"
)

// milliseconds is how times are written in headers: RFC 3339 with three digits.
const milliseconds = "2006-01-02T15:04:05.000Z07:00"

// maxToken bounds the page's token in a subject: the server takes a protocol line of 4 KiB, and every distinct subject
// costs it memory. The header has the id itself.
const maxToken = 128

// Tray is where elements are stored.
type Tray struct{ js jetstream.JetStream }

// New makes a tray.
func New(js jetstream.JetStream) *Tray { return &Tray{js} }

// Store publishes the elements together and waits for every acknowledgement. After an error some may be stored; storing
// all of them again adds only those that are missing (by their ids, within the streams' duplicate windows).
func (t *Tray) Store(ctx context.Context, elements []envelope.Element, received time.Time) error {
	if len(elements) == 0 {
		return nil
	}
	msgs := make([]*nats.Msg, 0, len(elements))
	for _, e := range elements {
		msgs = append(msgs, message(ctx, e, received))
	}
	if err := stream.PublishAll(ctx, t.js, msgs...); err != nil {
		return fmt.Errorf("store %d elements: %w", len(elements), err)
	}
	return nil
}

func message(ctx context.Context, e envelope.Element, received time.Time) *nats.Msg {
	msg := stream.NewMsg(ctx, subject(e), e.ID, e.Body)
	msg.Header.Set(topology.HeaderPage, e.Page)
	msg.Header.Set(topology.HeaderPerson, e.Person)
	msg.Header.Set(topology.HeaderKind, e.Kind)
	msg.Header.Set(topology.HeaderField, e.Field)
	msg.Header.Set(topology.HeaderReceivedAt, received.UTC().Format(milliseconds))
	if !e.EntryTime.IsZero() {
		msg.Header.Set(topology.HeaderEntryTime, e.EntryTime.UTC().Format(milliseconds))
	}
	return msg
}

// subject is where an element goes. A page id too long for a subject stands there as its hash.
func subject(e envelope.Element) string {
	page := e.Page
	if len(page) > maxToken {
		page = hash([]byte(page))
	}
	if e.OneTime {
		return topology.OptinSubject(page, e.Person)
	}
	return topology.EventSubject(page, e.Person, e.Kind)
}

// Bury keeps a raw body in the dead letters. The same body with the same reason is one letter while DEAD remembers.
func (t *Tray) Bury(ctx context.Context, body []byte, reason, detail string, received time.Time) error {
	headers := stream.NewMsg(ctx, "", reason+":"+hash(body), nil).Header
	headers.Set(topology.HeaderReceivedAt, received.UTC().Format(milliseconds))
	return stream.Bury(ctx, t.js, topology.DeadWebhooks, "webhook", headers, body, reason, detail)
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
