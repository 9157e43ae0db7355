package server

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onebell/onebell/pkg/fault"
	"github.com/onebell/onebell/pkg/rpc"
	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/proto/ids"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/token/internal/archive"
	"github.com/onebell/onebell/services/token/internal/intake"
)

// maxID bounds page ids and psids (contract, section E).
const maxID = 64

// ForgetPerson implements TokenService.
func (s *Server) ForgetPerson(ctx context.Context, req *tokenv1.ForgetPersonRequest) (*tokenv1.ForgetPersonResponse, error) {
	if wrong := personFields(req.GetPageId(), req.GetPsid(), false); len(wrong) > 0 {
		return nil, rpc.BadRequest(wrong...)
	}
	if err := s.Index.Ready(); err != nil {
		return nil, err
	}
	pages := []string{req.GetPageId()}
	if req.GetPageId() == "" {
		var err error
		if pages, err = s.pagesOf(ctx, req.GetPsid()); err != nil {
			return nil, err
		}
	}
	resp := &tokenv1.ForgetPersonResponse{}
	for _, page := range pages {
		erased, err := s.forget(ctx, page, req.GetPsid())
		resp.Permissions += erased
		if err != nil {
			return nil, err
		}
	}
	count(ctx, "ForgetPerson", "done")
	return resp, s.Index.Confirm(ctx)
}

// forget erases a person of one page. The order makes it safe to end anywhere: from the mark on nothing of the person is taken up
// again; then Redis; then the streams, OPTINS last, for the other streams' messages are known by its permissions.
func (s *Server) forget(ctx context.Context, page, psid string) (int64, error) {
	who, err := s.who(ctx, page, psid)
	if err != nil {
		return 0, err
	}
	// Of an opt-in that comes in this instant, too, is known whether it counts: by its place in its stream.
	last, err := archive.Last(ctx, s.JS)
	if err != nil {
		return 0, err
	}
	fact := &tokenv1.PersonFact{PageId: page, At: timestamppb.Now(), What: &tokenv1.PersonFact_Forgotten{Forgotten: &tokenv1.Forgotten{
		Shard: ids.Shard(psid), Name: who.Names[0], OptinsSequence: last[topology.Optins],
		EventsSequence: last[topology.Events], OutcomesSequence: last[topology.Outcomes],
	}}}
	body, err := proto.Marshal(fact)
	if err != nil {
		return 0, err
	}
	ack, err := s.JS.PublishMsg(ctx, stream.NewMsg(ctx, topology.PersonSubject(page, psid), "", body))
	if err != nil {
		return 0, fault.Later(time.Second, "jetstream", fmt.Errorf("publish that a person is forgotten: %w", err))
	}
	mark, _ := intake.MarkOf(fact, ack.Sequence)
	erased, err := s.Ledger.Forget(ctx, mark, psid)
	if err != nil {
		return 0, err
	}
	return erased, s.Intake.Finish(ctx, who, mark)
}

// who gathers by what a person's messages are known.
func (s *Server) who(ctx context.Context, page, psid string) (*archive.Who, error) {
	owned, err := s.Ledger.Owned(ctx, page, psid)
	if err != nil {
		return nil, err
	}
	who := &archive.Who{PageID: page, PSID: psid, Names: s.Ledger.Names(page, psid), Permissions: map[string]bool{}}
	for _, id := range owned {
		who.Permissions[id] = true
	}
	return who, nil
}

// pagesOf are the pages on which something is held of a person.
func (s *Server) pagesOf(ctx context.Context, psid string) ([]string, error) {
	known, err := s.Ledger.Pages(ctx)
	if err != nil {
		return nil, err
	}
	candidates, err := archive.Pages(ctx, s.JS, psid)
	if err != nil {
		return nil, err
	}
	for _, page := range known {
		candidates[page] = true
	}
	var pages []string
	for page := range candidates {
		holds, err := s.Ledger.Holds(ctx, page, psid)
		if err != nil {
			return nil, err
		}
		if !holds {
			if holds, err = s.told(ctx, page, psid); err != nil {
				return nil, err
			}
		}
		if holds {
			pages = append(pages, page)
		}
	}
	slices.Sort(pages)
	return pages, nil
}

// told tells whether a stream still holds something of a person.
func (s *Server) told(ctx context.Context, page, psid string) (found bool, err error) {
	who, err := s.who(ctx, page, psid)
	if err != nil {
		return false, err
	}
	who.Names = nil // a mark alone is nothing to erase
	for _, name := range archive.Streams {
		err := archive.Each(ctx, s.JS, who, name, 0, func(archive.Message) (bool, error) {
			found = true
			return false, nil
		})
		if err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// What one answer of ExportPerson holds at most: well below the limit of a message. One message of a stream is at most 1 MiB
// by the server's default, and may become longer as JSON.
const (
	maxFacts       = 1000
	maxExportBytes = 1 << 20
)

// export is the JSON that ExportPerson answers.
type export struct {
	PageID      string            `json:"page_id"`
	PSID        string            `json:"psid"`
	Person      json.RawMessage   `json:"person,omitempty"`
	Permissions []json.RawMessage `json:"permissions,omitempty"`
	Facts       []exported        `json:"facts"`
}

type exported struct {
	Stream   string          `json:"stream"`
	Sequence string          `json:"sequence"`
	StoredAt time.Time       `json:"stored_at"`
	Subject  string          `json:"subject"`
	Body     json.RawMessage `json:"body"`
}

// ExportPerson implements TokenService.
func (s *Server) ExportPerson(ctx context.Context, req *tokenv1.ExportPersonRequest) (*tokenv1.ExportPersonResponse, error) {
	wrong := personFields(req.GetPageId(), req.GetPsid(), true)
	name, from, ok := parseExportCursor(req.GetCursor())
	if !ok {
		wrong = append(wrong, rpc.Violation{Field: "cursor", Description: "expected one that ExportPerson gave"})
	}
	if len(wrong) > 0 {
		return nil, rpc.BadRequest(wrong...)
	}
	if err := s.Index.Ready(); err != nil {
		return nil, err
	}
	who, err := s.who(ctx, req.GetPageId(), req.GetPsid())
	if err != nil {
		return nil, err
	}
	out := &export{PageID: who.PageID, PSID: who.PSID, Facts: []exported{}}
	if req.GetCursor() == "" {
		if err := s.exportIndex(ctx, who, out); err != nil {
			return nil, err
		}
	}
	cursor, err := s.exportFacts(ctx, who, name, from, out)
	if err != nil {
		return nil, err
	}
	if req.GetCursor() == "" && out.Person == nil && len(out.Facts) == 0 {
		return nil, notFound("person on this page")
	}
	text, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	count(ctx, "ExportPerson", "done")
	return &tokenv1.ExportPersonResponse{Json: string(text), Cursor: cursor}, s.Index.Confirm(ctx)
}

// exportIndex adds what Redis holds.
func (s *Server) exportIndex(ctx context.Context, who *archive.Who, out *export) error {
	names := protojson.MarshalOptions{UseProtoNames: true}
	person, err := s.Ledger.Person(ctx, who.PageID, who.PSID)
	if err != nil || person == nil {
		return err
	}
	if out.Person, err = names.Marshal(person); err != nil {
		return err
	}
	owned := make([]string, 0, len(who.Permissions))
	for id := range who.Permissions {
		owned = append(owned, id)
	}
	slices.Sort(owned)
	for _, id := range owned {
		p, err := s.Ledger.Permission(ctx, who.PageID, id)
		if err != nil {
			return err
		}
		if p == nil {
			continue // erased in this moment
		}
		text, err := names.Marshal(p)
		if err != nil {
			return err
		}
		out.Permissions = append(out.Permissions, text)
	}
	return nil
}

// exportFacts adds messages of the streams from a place on, and gives the place where it stopped; empty at the end.
func (s *Server) exportFacts(ctx context.Context, who *archive.Who, name string, from uint64, out *export) (cursor string, err error) {
	size := 0
	// OPTINS is gone through again in any case: outcomes are known by its permissions.
	for _, stream := range archive.Streams {
		begin := uint64(0)
		if stream == name {
			begin = from
		}
		skip := slices.Index(archive.Streams, stream) < slices.Index(archive.Streams, name)
		if skip && stream != topology.Optins {
			continue
		}
		if stream == topology.Optins {
			begin = 0
		}
		err := archive.Each(ctx, s.JS, who, stream, begin, func(m archive.Message) (bool, error) {
			if skip || stream == name && m.Seq < from {
				return true, nil
			}
			body, err := archive.Body(m)
			if err != nil {
				return false, err
			}
			if len(out.Facts) == maxFacts || size > 0 && size+len(body) > maxExportBytes {
				cursor = stream + " " + strconv.FormatUint(m.Seq, 10)
				return false, nil
			}
			size += len(body)
			out.Facts = append(out.Facts, exported{stream, strconv.FormatUint(m.Seq, 10), m.Stored, m.Subject(), body})
			return true, nil
		})
		if err != nil || cursor != "" {
			return cursor, err
		}
	}
	return "", nil
}

// parseExportCursor reads the stream and sequence at which an export goes on.
func parseExportCursor(cursor string) (name string, from uint64, ok bool) {
	if cursor == "" {
		return archive.Streams[0], 0, true
	}
	name, text, _ := strings.Cut(cursor, " ")
	from, err := strconv.ParseUint(text, 10, 64)
	return name, from, err == nil && slices.Contains(archive.Streams, name)
}

// personFields names what is wrong with the ids of a person.
func personFields(page, psid string, needsPage bool) (wrong []rpc.Violation) {
	if len(page) > maxID || needsPage && page == "" {
		wrong = append(wrong, rpc.Violation{Field: "page_id", Description: "expected 1 to 64 characters"})
	}
	if psid == "" || len(psid) > maxID {
		wrong = append(wrong, rpc.Violation{Field: "psid", Description: "expected 1 to 64 characters"})
	}
	return wrong
}
