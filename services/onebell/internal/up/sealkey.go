package up

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/onebell/onebell/services/onebell/internal/whole"
)

// sealKeyName is the file in the data directory with the key that seals tokens before they reach Redis.
const sealKeyName = "seal.key"

// sealKey is the key of the data directory, made at the first start: base64 of 32 random bytes.
func sealKey(dir string) (string, error) {
	path := filepath.Join(dir, sealKeyName)
	content, err := os.ReadFile(path) //nolint:gosec // the operator's own directory
	switch {
	case err == nil && len(strings.TrimSpace(string(content))) > 0:
		return strings.TrimSpace(string(content)), nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("seal key: %w", err)
	}
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails
	key := base64.StdEncoding.EncodeToString(raw)
	// Whole or not at all: with half a key, or another one, the tokens in Redis could not be opened.
	if err := whole.Write(path, []byte(key+"\n")); err != nil {
		return "", fmt.Errorf("seal key: %w", err)
	}
	return key, nil
}
