package ledger

import (
	"context"
	_ "embed" // the script
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/onebell/onebell/pkg/redislua"
	"github.com/onebell/onebell/proto/ids"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
)

var (
	//go:embed lua/pause.lua
	pauseText   string
	pauseScript = redislua.NewScript("pause", pauseText)
)

// pausedKey is a page's pauses: hash, cause -> ms at which it was said, negative where the cause resumed the page. It has a
// slot of its own: grants are told by their caller, for no script reaches into two slots.
func pausedKey(pageID string) string { return string(slotOf(pageID, ids.NoShard)) + ":z" }

// pauseLife is how long it is believed that a page is paused, or not: so much later, at most, another token service takes
// notice. maxPauses bounds what is remembered.
const (
	pauseLife = time.Second
	maxPauses = 10_000
)

// pauses remembers for a moment which pages are paused.
type pauses struct {
	mu    sync.Mutex
	pages map[string]pauseSeen
}

type pauseSeen struct {
	paused bool
	until  time.Time
}

func (p *pauses) get(pageID string, now time.Time) (paused, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := p.pages[pageID]
	return seen.paused, now.Before(seen.until)
}

func (p *pauses) put(pageID string, paused bool, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pages == nil || len(p.pages) >= maxPauses {
		p.pages = map[string]pauseSeen{}
	}
	p.pages[pageID] = pauseSeen{paused, until}
}

func (p *pauses) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pages = nil
}

// ApplyPage applies a fact about a page.
func (l *Ledger) ApplyPage(ctx context.Context, fact *tokenv1.PageFact) error {
	var cause tokenv1.PauseCause
	how := "0"
	switch what := fact.GetWhat().(type) {
	case *tokenv1.PageFact_Paused:
		cause, how = what.Paused.GetCause(), "1"
	case *tokenv1.PageFact_Resumed:
		cause = what.Resumed.GetCause()
	default:
		return nil // a fact of a newer version: not ours to judge
	}
	_, err := l.run(ctx, []redislua.Call{{
		Script: pauseScript, Keys: []string{pausedKey(fact.GetPageId())}, Args: []any{int32(cause), fact.GetAt().AsTime().UnixMilli(), how},
	}})
	l.pauses.clear()
	if err != nil {
		return fmt.Errorf("pause page: %w", err)
	}
	return nil
}

// pausedArg is what a grant is told.
var pausedArg = map[bool]string{true: "1", false: ""}

// Paused tells, by page, which pages of these items are paused, as it was at most a second ago.
func (l *Ledger) Paused(ctx context.Context, items []*tokenv1.GrantItem) (map[string]bool, error) {
	now := time.Now()
	all := make(map[string]bool, 1)
	asked := map[string]*redis.StringSliceCmd{}
	pipe := l.rdb.Pipeline()
	for _, item := range items {
		page := item.GetPageId()
		if _, done := all[page]; done {
			continue
		}
		paused, known := l.pauses.get(page, now)
		all[page] = paused
		if !known {
			asked[page] = pipe.HVals(ctx, pausedKey(page))
		}
	}
	if len(asked) == 0 {
		return all, nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("paused pages: %w", unavailable(err))
	}
	for page, cmd := range asked {
		all[page] = slices.ContainsFunc(cmd.Val(), func(at string) bool { return !strings.HasPrefix(at, "-") })
		l.pauses.put(page, all[page], now.Add(pauseLife))
	}
	return all, nil
}
