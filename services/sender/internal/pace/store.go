// Package pace keeps every page within its pace, over all workers: moments at which a call may start are reserved from
// Redis in small slices and handed out here. It also keeps what stops a page: a throttle for a time, a refusal until the
// access token changed. It knows no verdict and makes no call.
package pace

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/onebell/onebell/pkg/redislua"
)

var (
	//go:embed reserve.lua
	reserveText string
	//go:embed giveback.lua
	givebackText string
	//go:embed throttle.lua
	throttleText string

	reserveScript  = redislua.NewScript("reserve", reserveText)
	givebackScript = redislua.NewScript("giveback", givebackText)
	throttleScript = redislua.NewScript("throttle", throttleText)
)

// FirstBackOff is how long a throttle that states no time stops a page at least.
const FirstBackOff = time.Minute

const maxBackOff = time.Hour // at most

// Store is the pace in Redis.
type Store struct {
	rdb redis.UniversalClient
}

// NewStore makes a store.
func NewStore(rdb redis.UniversalClient) *Store { return &Store{rdb} }

// Fingerprint tells one access token from another without giving it away: the first 8 bytes, in hex, of SHA-256 over a
// label and the token.
func Fingerprint(accessToken string) string {
	sum := sha256.Sum256([]byte("onebell access token\n" + accessToken))
	return hex.EncodeToString(sum[:8])
}

// All keys of a page are in one slot.
func paceKey(page, class string) string { return "{" + page + "}:pace:" + class }
func throttleKey(page string) string    { return "{" + page + "}:throttle" }
func refusedKey(page string) string     { return "{" + page + "}:refused" }

// reservation is what reserve.lua answers, times in µs of Redis' clock.
type reservation struct {
	given                    int
	now, first, stoppedUntil int64
	refused                  bool
	asked, answered          time.Time // here
	spacing                  int64
}

func (s *Store) reserve(ctx context.Context, page, class, fingerprint string, want int, spacing, lead, horizon time.Duration) (reservation, error) {
	r := reservation{asked: time.Now(), spacing: spacing.Microseconds()}
	values, err := reserveScript.Run(ctx, s.rdb, []string{paceKey(page, class), throttleKey(page), refusedKey(page)},
		want, spacing.Microseconds(), fingerprint, lead.Microseconds(), horizon.Microseconds()).Int64Slice()
	r.answered = time.Now()
	if err != nil || len(values) != 5 {
		return r, fmt.Errorf("reserve slots of page %s: %w", page, err)
	}
	r.given, r.now, r.first, r.stoppedUntil, r.refused = int(values[0]), values[1], values[2], values[3], values[4] == 1
	return r, nil
}

// giveBack returns the slots from `from` to `end` (µs of Redis' clock) when nobody reserved after them.
func (s *Store) giveBack(ctx context.Context, page, class string, end, from int64) error {
	if err := givebackScript.Run(ctx, s.rdb, []string{paceKey(page, class)}, end, from).Err(); err != nil {
		return fmt.Errorf("give back slots of page %s: %w", page, err)
	}
	return nil
}

// Throttle stops a page for the stated time, 0: for a back-off of one minute, doubling up to an hour. It gives how long.
func (s *Store) Throttle(ctx context.Context, page string, stated time.Duration) (time.Duration, error) {
	values, err := throttleScript.Run(ctx, s.rdb, []string{throttleKey(page)},
		stated.Microseconds(), FirstBackOff.Microseconds(), maxBackOff.Microseconds()).Int64Slice()
	if err != nil || len(values) != 2 {
		return max(stated, FirstBackOff), fmt.Errorf("throttle page %s: %w", page, err)
	}
	return time.Duration(values[1]-values[0]) * time.Microsecond, nil
}

// Refuse stops a page until its access token has another fingerprint.
func (s *Store) Refuse(ctx context.Context, page, fingerprint string) error {
	// No expiry: the contract says only after the token changed.
	if err := s.rdb.Set(ctx, refusedKey(page), fingerprint, 0).Err(); err != nil {
		return fmt.Errorf("refuse page %s: %w", page, err)
	}
	return nil
}
