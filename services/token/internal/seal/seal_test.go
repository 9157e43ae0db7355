package seal_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/onebell/onebell/services/token/internal/seal"
)

var keyA, keyB = encode(1), encode(2)

func encode(b byte) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32)) }

func keys(t *testing.T, text string) *seal.Keys {
	t.Helper()
	var k seal.Keys
	if err := k.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return &k
}

func TestARotatedKeyStillOpens(t *testing.T) {
	t.Parallel()
	sealed, err := keys(t, "old:"+keyA).Seal([]byte("token"), "place")
	if err != nil || bytes.Contains(sealed, []byte("token")) {
		t.Fatalf("sealed %q, %v", sealed, err)
	}
	both := keys(t, "new:"+keyB+", old:"+keyA)
	if got, err := both.Open(sealed, "place"); err != nil || string(got) != "token" {
		t.Errorf("open = %q, %v", got, err)
	}
	again, _ := both.Seal([]byte("token"), "place")
	if _, err := keys(t, "old:"+keyA).Open(again, "place"); err == nil || !strings.Contains(err.Error(), `"new"`) {
		t.Errorf("opened without its key: %v", err)
	}
}

func TestOpenRefusesWhatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	k := keys(t, keyA)
	sealed, _ := k.Seal([]byte("token"), "place")
	if _, err := k.Open(sealed, "another place"); err == nil {
		t.Error("opened at another place")
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := k.Open(bad, "place"); err == nil {
			t.Errorf("opened with byte %d changed", i)
		}
		if _, err := k.Open(sealed[:i], "place"); err == nil {
			t.Errorf("opened with %d bytes", i)
		}
	}
}

func TestBadKeysAreRefusedWithoutShowingThem(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "short", "a:" + keyA + ",a:" + keyB, ":" + keyA, keyA[:40]} {
		var k seal.Keys
		if err := k.UnmarshalText([]byte(bad)); err == nil || strings.Contains(err.Error(), keyA[:40]) {
			t.Errorf("UnmarshalText(%q) = %v", bad, err)
		}
	}
}
