package web

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	outcomev1 "github.com/onebell/onebell/proto/onebell/outcome/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/services/console/internal/tail"
)

// topicsShown bounds the table of a page: those with the most people waiting.
const topicsShown = 50

// pageCounts is a page of pages.yaml and who waits there.
type pageCounts struct {
	Page   pages.Page
	Topics []*tokenv1.TopicCount
	More   int // topics left out
	Total  *tokenv1.TopicCount
}

func (s *Site) permissions(ctx context.Context) view {
	counts, err := s.counts.Get(ctx)
	if err != nil {
		return view{Problem: err.Error()}
	}
	return view{Data: countPages(s.Pages(), counts)}
}

// countPages puts the counts in the order of the file, topics with the most people waiting first.
func countPages(f pages.File, counts map[string][]*tokenv1.TopicCount) []pageCounts {
	all := make([]pageCounts, 0, len(f.Pages))
	for _, page := range f.Pages {
		topics := slices.SortedFunc(slices.Values(counts[page.ID]), func(a, b *tokenv1.TopicCount) int {
			return cmp.Or(cmp.Compare(b.GetWaiting(), a.GetWaiting()), strings.Compare(a.GetTopic(), b.GetTopic()))
		})
		one := pageCounts{Page: page, Topics: topics, Total: sum(topics)}
		if len(topics) > topicsShown {
			one.Topics, one.More = topics[:topicsShown], len(topics)-topicsShown
		}
		all = append(all, one)
	}
	return all
}

func sum(topics []*tokenv1.TopicCount) *tokenv1.TopicCount {
	t := &tokenv1.TopicCount{}
	for _, c := range topics {
		t.Waiting += c.GetWaiting()
		t.Granted += c.GetGranted()
		t.Unknown += c.GetUnknown()
		t.Spent += c.GetSpent()
		t.Expired += c.GetExpired()
		t.Revoked += c.GetRevoked()
		t.Void += c.GetVoid()
	}
	return t
}

// outcome is a line of the last outcomes.
type outcome struct {
	*outcomev1.Outcome
	PageName string
}

func (s *Site) outcomes(context.Context) view {
	last, err := s.Outcomes.Last()
	file := s.Pages()
	lines := make([]outcome, 0, len(last))
	for _, o := range last {
		lines = append(lines, outcome{o, pageName(file, o.GetPageId())})
	}
	v := view{Data: lines}
	switch {
	case errors.Is(err, tail.ErrNotYet):
		v.Problem = "Not read yet: the console has just started."
	case err != nil:
		v.Problem = "NATS does not answer, or has no stream OUTCOMES yet: what stands here may be old."
	}
	return v
}

func (s *Site) trays(ctx context.Context) view {
	found, err := s.streams.Get(ctx)
	if err != nil {
		return view{Problem: natsAway}
	}
	return view{Data: found}
}

func (s *Site) letters(ctx context.Context) view {
	letters, err := s.dead.Get(ctx)
	if err != nil {
		return view{Problem: natsAway}
	}
	return view{Data: letters}
}

const natsAway = "NATS does not answer: see ONEBELL_NATS_URL, and /readyz on the admin listener."

func pageIDs(f pages.File) []string {
	ids := make([]string, 0, len(f.Pages))
	for _, p := range f.Pages {
		ids = append(ids, p.ID)
	}
	return ids
}

// pageName is the name of a page in the file, else its id.
func pageName(f pages.File, id string) string {
	if p, ok := f.Page(id); ok && p.Name != "" {
		return p.Name
	}
	return id
}
