// Package archive finds what the streams hold about one person, to show it or to delete it. Only the subject of the person's
// shard is read. It keeps nothing.
package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/onebell/onebell/pkg/fault"
	"github.com/onebell/onebell/proto/ids"
	outcomev1 "github.com/onebell/onebell/proto/onebell/outcome/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/topology"
)

// Streams are those that hold messages about people. OPTINS comes first where they are read: it knows the permissions, by which
// outcomes are known.
var Streams = []string{topology.Optins, topology.People, topology.Outcomes, topology.Events}

// Who is the person looked for.
type Who struct {
	PageID, PSID string
	Names        []string        // under which marks may stand for the person
	Permissions  map[string]bool // of the person; those of opt-ins that are read come to it
}

// subject is where a stream keeps the messages of a person's shard.
func (w *Who) subject(stream string) string {
	at := topology.SubjectToken(w.PageID) + "." + ids.Shard(w.PSID)
	switch stream {
	case topology.Optins:
		return "optins." + at
	case topology.People:
		return "people." + at
	case topology.Outcomes:
		return "outcomes." + at + ".*"
	}
	return "events." + at + ".*"
}

// is tells whether a message of a stream is about the person.
func (w *Who) is(stream string, msg jetstream.Msg) bool {
	switch stream {
	case topology.Outcomes:
		var o outcomev1.Outcome
		err := protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(msg.Data(), &o)
		return err == nil && o.GetPageId() == w.PageID && (o.GetPsid() == w.PSID || w.Permissions[o.GetPermissionId()])
	case topology.People:
		var f tokenv1.PersonFact
		err := proto.Unmarshal(msg.Data(), &f)
		return err == nil && f.GetPageId() == w.PageID && (f.GetPsid() == w.PSID || slices.Contains(w.Names, f.GetForgotten().GetName()))
	}
	if msg.Headers().Get(topology.HeaderPage) != w.PageID || msg.Headers().Get(topology.HeaderPerson) != w.PSID {
		return false
	}
	if token := TokenOf(msg); stream == topology.Optins && token != "" {
		w.Permissions[ids.Permission(w.PageID, w.PSID, token)] = true
	}
	return true
}

// Last are the last sequences of the streams.
func Last(ctx context.Context, js jetstream.JetStream) (map[string]uint64, error) {
	last := map[string]uint64{}
	for _, name := range Streams {
		s, err := js.Stream(ctx, name)
		if err != nil {
			return nil, away(fmt.Errorf("stream %s: %w", name, err))
		}
		last[name] = s.CachedInfo().State.LastSeq
	}
	return last, nil
}

// Pages are the pages of which a stream holds messages in a person's shard, as their subjects have them.
func Pages(ctx context.Context, js jetstream.JetStream, psid string) (map[string]bool, error) {
	pages := map[string]bool{}
	for _, name := range Streams {
		s, err := js.Stream(ctx, name)
		if err != nil {
			return nil, away(fmt.Errorf("stream %s: %w", name, err))
		}
		filter := map[string]string{
			topology.Optins: "optins.*.", topology.People: "people.*.", topology.Outcomes: "outcomes.*.", topology.Events: "events.*.",
		}[name] + ids.Shard(psid)
		if name == topology.Outcomes || name == topology.Events {
			filter += ".*"
		}
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
		if err != nil {
			return nil, away(fmt.Errorf("subjects of %s: %w", name, err))
		}
		for subject := range info.State.Subjects {
			pages[pageOf(subject)] = true
		}
	}
	return pages, nil
}

// Message is one that was found.
type Message struct {
	jetstream.Msg
	Stream string
	Seq    uint64
	Stored time.Time
}

// Each gives the person's messages of a stream from a sequence on, oldest first, up to what is there now. take answers whether
// to go on.
func Each(ctx context.Context, js jetstream.JetStream, who *Who, stream string, from uint64, take func(Message) (bool, error)) error {
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return away(fmt.Errorf("stream %s: %w", stream, err))
	}
	last := s.CachedInfo().State.LastSeq
	if from > last {
		return nil
	}
	subject := who.subject(stream)
	// The reader is the server's to remove: 30 s after nobody reads any more.
	consumer, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subject}, InactiveThreshold: 30 * time.Second,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(from, 1),
	})
	if err != nil {
		return away(fmt.Errorf("read %s: %w", subject, err))
	}
	if info := consumer.CachedInfo(); info != nil && info.NumPending == 0 {
		return nil
	}
	messages, err := consumer.Messages(jetstream.PullHeartbeat(time.Second), jetstream.PullExpiry(5*time.Second))
	if err != nil {
		return away(fmt.Errorf("read %s: %w", subject, err))
	}
	defer messages.Stop()
	for {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return away(fmt.Errorf("read %s: %w", subject, err))
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read %s: %w", subject, err)
		}
		if meta.Sequence.Stream > last {
			return nil
		}
		if who.is(stream, msg) {
			goOn, err := take(Message{msg, stream, meta.Sequence.Stream, meta.Timestamp})
			if err != nil || !goOn {
				return err
			}
		}
		if meta.NumPending == 0 || meta.Sequence.Stream == last {
			return nil
		}
	}
}

// Delete removes a message and overwrites its content. One that is gone is gone.
func Delete(ctx context.Context, js jetstream.JetStream, stream string, seq uint64) error {
	s, err := js.Stream(ctx, stream)
	if err == nil {
		err = s.SecureDeleteMsg(ctx, seq)
	}
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) && !gone(err) {
		return away(fmt.Errorf("delete %d of %s: %w", seq, stream, err))
	}
	return nil
}

// noMessage is the server's code for "no message found".
const noMessage = 10037

func gone(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (api.ErrorCode == noMessage || api.ErrorCode == 10057 && api.Description == "message not found")
}

// away says of an error of the streams that trying again will help.
func away(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fault.Later(time.Second, "jetstream", err)
}
