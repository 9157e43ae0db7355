package intake

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onebell/onebell/pkg/fault"
	"github.com/onebell/onebell/pkg/stream"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/rules"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/token/internal/ledger"
)

// Intake applies facts.
type Intake struct {
	JS     jetstream.JetStream
	Ledger *ledger.Ledger
	Rules  func() *rules.Rules
	Ready  func() error // nil when the index is complete; live consumers wait for it
	Log    *slog.Logger

	turns [64]sync.Mutex // see heed
}

// Consumers are the live consumers, one for each stream of facts that others write. (PEOPLE and OUTCOMES settled over gRPC
// are applied at once as well; that a crash in between loses nothing is due to these.)
func (in *Intake) Consumers() []stream.Consumer {
	base := func(name string, workers int) stream.Consumer {
		return stream.Consumer{
			Stream: name, Durable: "token", DeadSubject: topology.DeadSubject(name), Workers: workers, Log: in.Log,
			Handle: func(ctx context.Context, msg jetstream.Msg) error {
				if err := in.Ready(); err != nil {
					return err
				}
				return in.live(ctx, name, msg)
			},
		}
	}
	events := base(topology.Events, 8)
	// An echo that is put off until its lease is over holds up nobody else: as many as a busy minute brings.
	events.MaxPending = 100_000
	events.Subjects = EventSubjects()
	return []stream.Consumer{
		base(topology.Optins, 16), base(topology.People, 1), base(topology.Outcomes, 16), events,
		// From here it is known which grants may have been used, though nothing was settled.
		base(topology.Tries, 4),
	}
}

// EventSubjects are the subjects of EVENTS that say something about people or pages.
func EventSubjects() (subjects []string) {
	for _, kind := range append([]string{KindEcho, KindPolicy}, TaggingKinds...) {
		subjects = append(subjects, "events.*.*."+kind)
	}
	return subjects
}

// live applies one message and, for an event, says what follows from it.
func (in *Intake) live(ctx context.Context, name string, msg jetstream.Msg) error {
	if over, err := in.forgotten(ctx, name, msg); err != nil || over {
		return err
	}
	if name == topology.Events {
		return in.event(ctx, msg)
	}
	return in.apply(ctx, name, []jetstream.Msg{msg}, false)
}

// Apply applies messages of a stream during a rebuild: one that cannot be read was dealt with when it was live.
func (in *Intake) Apply(ctx context.Context, name string, msgs []jetstream.Msg) error {
	msgs, err := in.remembered(ctx, name, msgs)
	if err != nil {
		return err
	}
	return in.apply(ctx, name, msgs, true)
}

func (in *Intake) apply(ctx context.Context, name string, msgs []jetstream.Msg, again bool) error {
	var optins []ledger.Optin
	var settled []ledger.Settlement
	for _, msg := range msgs {
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		switch name {
		case topology.Optins:
			var o ledger.Optin
			if o, err = Optin(msg.Headers(), msg.Data(), meta.Timestamp, in.Rules().Topic); err == nil {
				o.Seq = meta.Sequence.Stream
				optins = append(optins, o)
			}
		case topology.Outcomes:
			var s ledger.Settlement
			var does bool
			if s, does, err = Outcome(msg.Data()); does {
				settled = append(settled, s)
			}
		case topology.Tries:
			var tries []ledger.Settlement
			tries, err = Tries(msg.Data())
			settled = append(settled, tries...)
		case topology.People:
			if topology.IsPageSubject(msg.Subject()) {
				err = in.page(ctx, msg)
			} else {
				err = in.person(ctx, msg.Data(), meta.Sequence.Stream)
			}
		case topology.Events:
			err = in.touch(ctx, msg, meta.Timestamp)
		}
		if err != nil && (!again || fault.Of(err).Kind != fault.Invalid) {
			return err
		}
	}
	if len(optins) > 0 {
		recorded, err := in.Ledger.Record(ctx, optins)
		if err != nil {
			return err
		}
		in.Log.Debug("opt-ins recorded", "page", optins[0].PageID, "new", len(slices.DeleteFunc(recorded, func(n bool) bool { return !n })), "of", len(optins))
	}
	_, err := in.Ledger.Apply(ctx, settled)
	return err
}

func (in *Intake) person(ctx context.Context, body []byte, seq uint64) error {
	f, err := PersonFact(body)
	if err != nil {
		return err
	}
	_, err = in.applyPerson(ctx, f, seq)
	return err
}

// applyPerson applies a fact about a person.
func (in *Intake) applyPerson(ctx context.Context, f *tokenv1.PersonFact, seq uint64) (changed int64, err error) {
	if changed, err = in.Ledger.ApplyPerson(ctx, f, seq); err != nil {
		return 0, err
	}
	if f.GetStopped() == nil && f.GetResumed() == nil {
		return changed, nil
	}
	return changed, in.Ledger.NoteWish(ctx, f.GetPageId(), f.GetPsid(), f.GetAt().AsTime())
}

// touch notes the last interaction.
func (in *Intake) touch(ctx context.Context, msg jetstream.Msg, stored time.Time) error {
	page, psid := msg.Headers().Get(topology.HeaderPage), msg.Headers().Get(topology.HeaderPerson)
	said, ok := ReadEvent(msg.Headers().Get(topology.HeaderKind), msg.Data(), stored)
	if !ok || !said.Opens || psid == "" {
		return nil
	}
	return in.Ledger.Touch(ctx, page, psid, said.At)
}

// event notes the last interaction, heeds a stop, and sets the tags that the rules give.
func (in *Intake) event(ctx context.Context, msg jetstream.Msg) error {
	meta, err := msg.Metadata()
	if err != nil {
		return err
	}
	if err := in.touch(ctx, msg, meta.Timestamp); err != nil {
		return err
	}
	page, psid, kind := msg.Headers().Get(topology.HeaderPage), msg.Headers().Get(topology.HeaderPerson), msg.Headers().Get(topology.HeaderKind)
	if p, ok := ReadPolicy(kind, msg.Data(), meta.Timestamp); ok && page != "" {
		return in.policy(ctx, page, p, cause(msg, meta))
	}
	if e, ok := ReadEcho(kind, msg.Data(), meta.Timestamp); ok && psid != "" {
		return in.echo(ctx, page, psid, e, msg, meta)
	}
	said, ok := ReadEvent(kind, msg.Data(), meta.Timestamp)
	if !ok || psid == "" {
		return nil
	}
	known, err := in.Ledger.Person(ctx, page, psid)
	if err != nil {
		return err
	}
	if w := wishOf(said, known.GetLocale()); w != nothing {
		if err := in.heed(ctx, page, psid, said, w, cause(msg, meta)); err != nil {
			return err
		}
	}
	add, err := in.Rules().Tags(said.Event, Person(page, psid, known))
	if err != nil {
		in.Log.Warn("a tag rule failed", "page", page, "kind", said.Kind, "err", err)
	}
	if add = newTags(ValidTags(add), known.GetTags()); len(add) == 0 {
		return nil
	}
	fact := &tokenv1.PersonFact{
		PageId: page, Psid: psid, At: timestamppb.New(said.At),
		What: &tokenv1.PersonFact_Tagged{Tagged: &tokenv1.Tagged{Add: add}},
	}
	_, err = in.Say(ctx, fact, "tag:"+msg.Headers().Get(nats.MsgIdHdr))
	return err
}

// cause names an event for the ids of what follows from it, so that its repeat says nothing new.
func cause(msg jetstream.Msg, meta *jetstream.MsgMetadata) string {
	if id := msg.Headers().Get(nats.MsgIdHdr); id != "" {
		return id
	}
	return "events-" + strconv.FormatUint(meta.Sequence.Stream, 10)
}

// Say publishes a fact about a person and applies it. id makes a repeat harmless; it may be empty.
func (in *Intake) Say(ctx context.Context, fact *tokenv1.PersonFact, id string) (changed int64, err error) {
	body, err := proto.Marshal(fact)
	if err != nil {
		return 0, err
	}
	ack, err := in.JS.PublishMsg(ctx, stream.NewMsg(ctx, topology.PersonSubject(fact.GetPageId(), fact.GetPsid()), id, body))
	if err != nil {
		return 0, fault.Later(time.Second, "jetstream", fmt.Errorf("publish a fact about a person: %w", err))
	}
	// Somebody may have had the person forgotten in this moment.
	forgotten, err := in.Ledger.Forgotten(ctx, topology.People, []ledger.Fact{{PageID: fact.GetPageId(), PSID: fact.GetPsid(), Seq: ack.Sequence}})
	if err != nil || forgotten[0] {
		return 0, err
	}
	return in.applyPerson(ctx, fact, ack.Sequence)
}

// Person is what rules see of a person; p may be nil.
func Person(page, psid string, p *tokenv1.Person) rules.Person {
	out := rules.Person{PSID: psid, PageID: page, Locale: p.GetLocale(), Tags: p.GetTags()}
	if t := p.GetLastInteractionAt(); t != nil {
		out.LastInteractionAt = t.AsTime()
	}
	return out
}

// MaxTag and MaxTags bound what is kept of a person.
const (
	MaxTag  = 128 // bytes in a tag
	MaxTags = 64  // tags of a person
)

// newTags are the tags that a person does not have yet, as many as there is room for: a fact on PEOPLE is kept for ever.
func newTags(add, has []string) []string {
	slices.Sort(add)
	add = slices.DeleteFunc(slices.Compact(add), func(t string) bool { return slices.Contains(has, t) })
	return add[:min(len(add), max(0, MaxTags-len(has)))]
}

// ValidTags drops tags that cannot be kept: empty or too long.
func ValidTags(tags []string) []string {
	return slices.DeleteFunc(slices.Clone(tags), func(t string) bool { return t == "" || len(t) > MaxTag })
}
