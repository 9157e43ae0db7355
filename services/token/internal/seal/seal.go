// Package seal keeps the platform's tokens unreadable at rest: AES-256-GCM with keys that can be rotated.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/onebell/onebell/pkg/config"
)

// Keys seal with the first key and open with all. The text form is ONEBELL_SEAL_KEY: base64 of 32 bytes, optionally with
// "keyid:" in front, several separated by commas.
type Keys struct {
	first string
	byID  map[string]cipher.AEAD
	names []namer // in the order of the text form
}

const expected = "base64 of 32 bytes, optionally keyid: in front (at most 16 letters or digits); several separated by commas, the first seals"

// UnmarshalText reads the text form. The error never shows a key.
func (k *Keys) UnmarshalText(text []byte) error {
	k.byID, k.names = map[string]cipher.AEAD{}, nil
	for i, part := range strings.Split(string(text), ",") {
		id, encoded, ok := strings.Cut(strings.TrimSpace(part), ":")
		if !ok {
			id, encoded = "0", id
		}
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(raw) != 32 || id == "" || len(id) > 16 || k.byID[id] != nil {
			return &config.Expected{What: expected}
		}
		block, err := aes.NewCipher(raw)
		if err != nil {
			return fmt.Errorf("seal key %s: %w", id, err)
		}
		if k.byID[id], err = cipher.NewGCM(block); err != nil {
			return fmt.Errorf("seal key %s: %w", id, err)
		}
		if i == 0 {
			k.first = id
		}
		k.names = append(k.names, newNamer(id, raw))
	}
	return nil
}

// Empty tells whether there is no key.
func (k *Keys) Empty() bool { return len(k.byID) == 0 }

// Seal hides a secret that belongs to a place (what is opened elsewhere is refused). The form is: length of the key id,
// key id, nonce, ciphertext. Nonces are random: rotate the key long before 2^32 secrets.
func (k *Keys) Seal(secret []byte, place string) ([]byte, error) {
	aead := k.byID[k.first]
	if aead == nil {
		return nil, errors.New("seal: no key")
	}
	nonce := make([]byte, aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	out := append([]byte{byte(len(k.first))}, k.first...)
	return aead.Seal(append(out, nonce...), nonce, secret, []byte(place)), nil
}

// Open gives the secret back.
func (k *Keys) Open(sealed []byte, place string) ([]byte, error) {
	if len(sealed) < 1 || len(sealed) < 1+int(sealed[0]) {
		return nil, errors.New("open sealed token: too short")
	}
	id, rest := string(sealed[1:1+sealed[0]]), sealed[1+sealed[0]:]
	aead := k.byID[id]
	if aead == nil {
		return nil, fmt.Errorf("open sealed token: the key %q is not among ONEBELL_SEAL_KEY", id)
	}
	if len(rest) < aead.NonceSize() {
		return nil, errors.New("open sealed token: too short")
	}
	secret, err := aead.Open(nil, rest[:aead.NonceSize()], rest[aead.NonceSize():], []byte(place))
	if err != nil {
		return nil, fmt.Errorf("open sealed token: %w", err)
	}
	return secret, nil
}
