// Package ids makes the ids of the contract (section E): each comes from its cause, so that the same cause makes the
// same id everywhere and at any time. It holds no state and knows no clock.
package ids

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"strings"
)

// Shards is the number of slices of a page's people.
const Shards = 64

// NoShard stands in a subject where there is no person.
const NoShard = "--"

// Shard is the slice of a person: fnv1a32(psid) mod 64, two lower-case hex digits.
func Shard(psid string) string {
	h := fnv.New32a()
	h.Write([]byte(psid))
	return ShardName(int(h.Sum32() % Shards))
}

// ShardName writes shard n, 0 to 63, as two lower-case hex digits.
func ShardName(n int) string { return fmt.Sprintf("%02x", n) }

// Permission is the id of the permission that a one-time token gives: the person's shard, then the first 15 bytes,
// in hex, of SHA-256 over page id, "otn" and token. 32 characters, of which the first two say where its record lives.
func Permission(pageID, psid, token string) string {
	return Shard(psid) + digest(15, pageID, "otn", token)
}

// PermissionShard is the shard in a permission id; false when the string is no permission id.
func PermissionShard(permissionID string) (string, bool) {
	if len(permissionID) != 32 || strings.ToLower(permissionID) != permissionID {
		return "", false
	}
	raw, err := hex.DecodeString(permissionID)
	if err != nil || raw[0] >= Shards {
		return "", false
	}
	return permissionID[:2], true
}

// Alert is the id of the decision that an event deserves messages.
func Alert(shop, topic, eventID string) string { return digest(16, "alert", shop, topic, eventID) }

// Send is the id of one message under one permission.
func Send(alertID, permissionID string) string { return digest(16, "send", alertID, permissionID) }

// digest is the first n bytes, in hex, of SHA-256 over the parts joined with a line feed.
func digest(n int, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:n])
}
