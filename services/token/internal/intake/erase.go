package intake

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/token/internal/archive"
	"github.com/onebell/onebell/services/token/internal/ledger"
)

// Finish deletes the messages of a person who is marked and gone from Redis: OPTINS last, for the other streams' messages are
// known by its permissions, and whoever goes on after a kill needs them.
func (in *Intake) Finish(ctx context.Context, who *archive.Who, mark ledger.Mark) error {
	var optins []uint64
	err := archive.Each(ctx, in.JS, who, topology.Optins, 0, func(m archive.Message) (bool, error) {
		if m.Seq <= mark.Upto[topology.Optins] {
			optins = append(optins, m.Seq)
			return true, nil
		}
		return true, in.once(ctx, topology.Optins, m)
	})
	if err != nil {
		return err
	}
	for _, name := range []string{topology.Outcomes, topology.Events, topology.People} {
		if err := in.deleteMarked(ctx, who, name, mark.Upto[name]); err != nil {
			return err
		}
	}
	for _, seq := range optins {
		if err := archive.Delete(ctx, in.JS, topology.Optins, seq); err != nil {
			return err
		}
	}
	return nil
}

// deleteMarked deletes the person's messages of a stream up to the mark.
func (in *Intake) deleteMarked(ctx context.Context, who *archive.Who, name string, upto uint64) error {
	return archive.Each(ctx, in.JS, who, name, 0, func(m archive.Message) (bool, error) {
		switch {
		case name == topology.People && m.Seq == upto: // the mark itself
			return true, nil
		case m.Seq <= upto:
			return true, archive.Delete(ctx, in.JS, name, m.Seq)
		case name == topology.Outcomes:
			_, err := in.Stray(ctx, m.Msg, m.Seq)
			return true, err
		}
		return true, in.once(ctx, name, m)
	})
}

// once applies a message after the mark again: it may have been applied before the person was erased, and gone with the rest.
func (in *Intake) once(ctx context.Context, name string, m archive.Message) error {
	return in.Apply(ctx, name, []jetstream.Msg{m.Msg})
}

// applyMarks applies marks whose persons are not known, and finishes what was begun for those who are found.
func (in *Intake) applyMarks(ctx context.Context, marks []ledger.Mark) error {
	found, err := in.Ledger.EraseMarked(ctx, marks)
	if err != nil {
		return err
	}
	for _, f := range found {
		who := &archive.Who{PageID: f.Mark.PageID, PSID: f.PSID, Names: in.Ledger.Names(f.Mark.PageID, f.PSID), Permissions: map[string]bool{}}
		for _, id := range f.Permissions {
			who.Permissions[id] = true
		}
		if err := in.Finish(ctx, who, f.Mark); err != nil {
			return err
		}
	}
	return in.Ledger.SetMarks(ctx, marks)
}
