package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// namer makes names with one key.
type namer struct {
	id  string
	key []byte
}

// newNamer derives a key of its own: what seals is used for nothing else.
func newNamer(id string, raw []byte) namer {
	mac := hmac.New(sha256.New, raw)
	mac.Write([]byte("onebell: names of forgotten people"))
	return namer{id, mac.Sum(nil)}
}

// Names are what a secret is called by whoever must know it again and may not keep it: a keyed hash, one with each key,
// `keyid:hash`. A mark is made with the first and looked for under all, so it outlives a rotation as long as its key stays
// in the list. A key may go from the list once what was marked with it is gone from where it is looked for.
func (k *Keys) Names(secret string) []string {
	names := make([]string, len(k.names))
	for i, n := range k.names {
		mac := hmac.New(sha256.New, n.key)
		mac.Write([]byte(secret))
		names[i] = n.id + ":" + hex.EncodeToString(mac.Sum(nil)[:16])
	}
	return names
}
