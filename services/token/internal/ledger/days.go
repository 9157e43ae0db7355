package ledger

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/onebell/onebell/proto/ids"
)

// The expiry index. For each day a shard has one string of entries, appended when a permission is recorded: 19 bytes each,
// where a sorted set takes over a hundred. An entry stays when its permission is used; whoever reads it looks at the record.

// dayMS is the length of a day.
const dayMS = 24 * 60 * 60 * 1000

// dayOf is the number of a time's day since 1970.
func dayOf(t time.Time) int64 { return floorDiv(t.UnixMilli(), dayMS) }

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func (s slot) days() string             { return string(s) + ":x" }
func (s slot) lapsing(day int64) string { return string(s) + ":x:" + strconv.FormatInt(day, 10) }

// idBytes and entryBytes are the lengths of a permission id without its shard, and of an entry.
const (
	idBytes    = 15
	entryBytes = idBytes + 4
)

// entry is a permission in the list of its day: the id without its shard, then the time of day in ms, big endian.
func entry(id string, lapses time.Time) []byte {
	e := make([]byte, entryBytes)
	_, _ = hex.Decode(e[:idBytes], []byte(id[2:]))                                          // our own ids are hex
	binary.BigEndian.PutUint32(e[idBytes:], uint32(lapses.UnixMilli()-dayOf(lapses)*dayMS)) //nolint:gosec // within a day
	return e
}

// lapses reads the entries of a day. Those that were erased are left out.
func lapses(d Day, list string) []Lapse {
	all := make([]Lapse, 0, len(list)/entryBytes)
	for ; len(list) >= entryBytes; list = list[entryBytes:] {
		if list[:idBytes] == erasedID {
			continue
		}
		at := d.Number*dayMS + int64(binary.BigEndian.Uint32([]byte(list[idBytes:entryBytes])))
		all = append(all, Lapse{ids.ShardName(d.Shard) + hex.EncodeToString([]byte(list[:idBytes])), time.UnixMilli(at)})
	}
	return all
}

// erasedID is what forget.lua leaves of an entry.
var erasedID = string(make([]byte, idBytes))
