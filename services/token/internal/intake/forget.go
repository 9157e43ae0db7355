package intake

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/onebell/onebell/pkg/fault"
	outcomev1 "github.com/onebell/onebell/proto/onebell/outcome/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/token/internal/archive"
	"github.com/onebell/onebell/services/token/internal/ledger"
)

// patience is how long whoever said that a person is forgotten has to apply it. Afterwards the consumer of PEOPLE does: it
// must look for the person among everybody, for the mark does not tell who it was.
const patience = 10 * time.Second

// MarkOf reads the mark of a forgotten person; false when the fact is another. seq is its sequence in PEOPLE.
func MarkOf(f *tokenv1.PersonFact, seq uint64) (ledger.Mark, bool) {
	m := f.GetForgotten()
	if m == nil {
		return ledger.Mark{}, false
	}
	return ledger.Mark{PageID: f.GetPageId(), Shard: m.GetShard(), Name: m.GetName(), Upto: map[string]uint64{
		topology.People: seq, topology.Optins: m.GetOptinsSequence(),
		topology.Events: m.GetEventsSequence(), topology.Outcomes: m.GetOutcomesSequence(),
	}}, true
}

// forgotten tells, before a live message is worked, whether it no longer counts: its person was forgotten after it. A mark is
// worked here.
func (in *Intake) forgotten(ctx context.Context, name string, msg jetstream.Msg) (bool, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return false, err
	}
	if name == topology.Outcomes {
		return in.Stray(ctx, msg, meta.Sequence.Stream)
	}
	fact, about := factOf(name, msg, meta.Sequence.Stream)
	if m, ok := MarkOf(fact, meta.Sequence.Stream); ok {
		return true, in.mark(ctx, m, meta.Timestamp)
	}
	if about.PSID == "" {
		return false, nil
	}
	forgotten, err := in.Ledger.Forgotten(ctx, name, []ledger.Fact{about})
	return err == nil && forgotten[0], err
}

// mark applies a mark that nobody has applied.
func (in *Intake) mark(ctx context.Context, m ledger.Mark, stored time.Time) error {
	done, err := in.Ledger.Marked(ctx, m)
	if err != nil || done {
		return err
	}
	if time.Since(stored) < patience {
		return fault.Later(patience, "being_forgotten", fmt.Errorf("a person of page %s is being forgotten", m.PageID))
	}
	return in.applyMarks(ctx, []ledger.Mark{m})
}

// Stray deletes an outcome of a permission that was erased with its person: a send was under way meanwhile. It tells whether
// it was one.
func (in *Intake) Stray(ctx context.Context, msg jetstream.Msg, seq uint64) (bool, error) {
	var o outcomev1.Outcome
	if (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(msg.Data(), &o) != nil || o.GetPsid() == "" {
		return false, nil
	}
	stray, err := in.Ledger.Erased(ctx, o.GetPageId(), o.GetPsid(), o.GetPermissionId())
	if err != nil || !stray {
		return false, err
	}
	return true, archive.Delete(ctx, in.JS, topology.Outcomes, seq)
}

// ApplyMarks applies the marks among messages of PEOPLE. A rebuild does so before all else: what they hide is not taken up.
func (in *Intake) ApplyMarks(ctx context.Context, _ string, msgs []jetstream.Msg) error {
	var marks []ledger.Mark
	for _, msg := range msgs {
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		fact, _ := factOf(topology.People, msg, meta.Sequence.Stream)
		if m, ok := MarkOf(fact, meta.Sequence.Stream); ok {
			marks = append(marks, m)
		}
	}
	return in.applyMarks(ctx, marks)
}

// remembered leaves out the messages that no longer count. An opt-in is judged where it is recorded.
func (in *Intake) remembered(ctx context.Context, name string, msgs []jetstream.Msg) ([]jetstream.Msg, error) {
	if name != topology.People && name != topology.Events {
		return msgs, nil
	}
	about := make([]ledger.Fact, len(msgs))
	for i, msg := range msgs {
		meta, err := msg.Metadata()
		if err != nil {
			return nil, err
		}
		_, about[i] = factOf(name, msg, meta.Sequence.Stream)
	}
	forgotten, err := in.Ledger.Forgotten(ctx, name, about)
	if err != nil {
		return nil, err
	}
	kept := make([]jetstream.Msg, 0, len(msgs))
	for i, msg := range msgs {
		if !forgotten[i] {
			kept = append(kept, msg)
		}
	}
	return kept, nil
}

// factOf says whom a message of PEOPLE or EVENTS is about; nobody where it cannot be read.
func factOf(name string, msg jetstream.Msg, seq uint64) (*tokenv1.PersonFact, ledger.Fact) {
	switch name {
	case topology.People:
		if strings.HasSuffix(msg.Subject(), ".--") {
			break // about a page
		}
		if f, err := PersonFact(msg.Data()); err == nil {
			return f, ledger.Fact{PageID: f.GetPageId(), PSID: f.GetPsid(), Seq: seq}
		}
	case topology.Events:
		return nil, ledger.Fact{PageID: msg.Headers().Get(topology.HeaderPage), PSID: msg.Headers().Get(topology.HeaderPerson), Seq: seq}
	}
	return nil, ledger.Fact{Seq: seq}
}
