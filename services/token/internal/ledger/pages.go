package ledger

import (
	"context"
	"fmt"
	"slices"
)

// notePages notes the pages of opt-ins before they are recorded, once for each in this process.
func (l *Ledger) notePages(ctx context.Context, optins []Optin) error {
	for _, o := range optins {
		if err := l.notePage(ctx, o.PageID); err != nil {
			return err
		}
	}
	return nil
}

func (l *Ledger) notePage(ctx context.Context, pageID string) error {
	if _, known := l.pages.Load(pageID); known {
		return nil
	}
	if err := l.rdb.SAdd(ctx, pagesKey, pageID).Err(); err != nil {
		return fmt.Errorf("note a page: %w", unavailable(err))
	}
	l.pages.Store(pageID, struct{}{})
	return nil
}

// Pages are the pages on which somebody opted in, sorted.
func (l *Ledger) Pages(ctx context.Context) ([]string, error) {
	pages, err := l.rdb.SMembers(ctx, pagesKey).Result()
	if err != nil {
		return nil, fmt.Errorf("pages: %w", unavailable(err))
	}
	slices.Sort(pages)
	return pages, nil
}
