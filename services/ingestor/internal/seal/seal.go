// Package seal tells whether a webhook comes from the platform: signatures and verify tokens, of all pages at once.
// It reads no request and does not say what becomes of one.
package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/onebell/onebell/proto/pages"
)

// Header is the one header that is taken for a signature. The older X-Hub-Signature (SHA-1) is not.
const Header = "X-Hub-Signature-256"

// Keys are the secrets and verify tokens of a pages.yaml.
type Keys struct {
	secrets []secret
	tokens  [][sha256.Size]byte
	pages   map[string][]int // page id -> its secrets
}

type secret struct {
	key   []byte
	page  string // the first page that lists it
	index int    // its place there
}

// New collects the keys of all pages. A secret that several pages share is tried once.
func New(f pages.File) *Keys {
	k := &Keys{pages: map[string][]int{}}
	for _, p := range f.Pages {
		k.pages[p.ID] = []int{}
		for i, s := range p.AppSecrets {
			if s == "" {
				continue // an empty key would let anybody sign
			}
			n := slices.IndexFunc(k.secrets, func(known secret) bool { return string(known.key) == s.Reveal() })
			if n < 0 {
				n = len(k.secrets)
				k.secrets = append(k.secrets, secret{[]byte(s.Reveal()), p.ID, i})
			}
			k.pages[p.ID] = append(k.pages[p.ID], n)
		}
		if p.VerifyToken != "" {
			k.tokens = append(k.tokens, sha256.Sum256([]byte(p.VerifyToken.Reveal())))
		}
	}
	return k
}

// Match says which secret signed, without showing it.
type Match struct {
	Page  string // the first page that lists the secret
	Index int    // its place in that page's app_secrets
	n     int
}

// Check verifies the values of the signature header against the raw body. There must be exactly one: "sha256=" and 64
// lower-case hex digits.
func (k *Keys) Check(values []string, body []byte) (Match, bool) {
	if len(values) != 1 {
		return Match{}, false
	}
	digits, ok := strings.CutPrefix(values[0], "sha256=")
	if !ok || len(digits) != 2*sha256.Size || strings.ToLower(digits) != digits {
		return Match{}, false
	}
	claimed, err := hex.DecodeString(digits)
	if err != nil {
		return Match{}, false
	}
	for n, s := range k.secrets {
		mac := hmac.New(sha256.New, s.key)
		mac.Write(body)
		if hmac.Equal(mac.Sum(nil), claimed) {
			return Match{s.page, s.index, n}, true
		}
	}
	return Match{}, false
}

// Verify tells whether a token is some page's verify token. It takes as long whichever page's it is: all are compared,
// as hashes, so that lengths do not show either.
func (k *Keys) Verify(token string) bool {
	sum := sha256.Sum256([]byte(token))
	found := 0
	for _, t := range k.tokens {
		found |= subtle.ConstantTimeCompare(t[:], sum[:])
	}
	return found == 1
}

// Knows tells whether a page is in pages.yaml.
func (k *Keys) Knows(page string) bool { return k.pages[page] != nil }

// MaySign tells whether a page accepts events under the secret that signed. A page that is not in pages.yaml does: its
// events are kept until it appears there.
func (k *Keys) MaySign(m Match, page string) bool {
	own, known := k.pages[page]
	return !known || slices.Contains(own, m.n)
}
