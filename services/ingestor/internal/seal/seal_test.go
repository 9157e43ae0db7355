package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/onebell/onebell/proto/pages"
)

func sign(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

var keys = New(pages.File{Pages: []pages.Page{
	{ID: "A", AppSecrets: []pages.Secret{"new", "old"}, VerifyToken: "verify-a"},
	{ID: "B", AppSecrets: []pages.Secret{"new"}},
	{ID: "C", AppSecrets: []pages.Secret{"", "other"}, VerifyToken: "verify-c"},
}})

func TestCheck(t *testing.T) {
	t.Parallel()
	const body = `{"text":"\u00e4\/"}`
	good := "sha256=" + sign("new", body)
	for _, c := range []struct {
		name   string
		values []string
		page   string // empty: refused
		index  int
	}{
		{"current secret", []string{good}, "A", 0},
		{"old secret of a rotation", []string{"sha256=" + sign("old", body)}, "A", 1},
		{"another page's secret", []string{"sha256=" + sign("other", body)}, "C", 1},
		{"missing", nil, "", 0},
		{"empty", []string{""}, "", 0},
		{"wrong secret", []string{"sha256=" + sign("wrong", body)}, "", 0},
		{"empty secret", []string{"sha256=" + sign("", body)}, "", 0},
		{"of another body", []string{"sha256=" + sign("new", body+" ")}, "", 0},
		{"upper-case digits", []string{"sha256=" + strings.ToUpper(sign("new", body))}, "", 0},
		{"upper-case name", []string{"SHA256=" + sign("new", body)}, "", 0},
		{"truncated", []string{good[:len(good)-2]}, "", 0},
		{"odd length", []string{good[:len(good)-1]}, "", 0},
		{"longer", []string{good + "00"}, "", 0},
		{"no digits", []string{"sha256=" + strings.Repeat("z", 64)}, "", 0},
		{"without a name", []string{sign("new", body)}, "", 0},
		{"space before", []string{" " + good}, "", 0},
		{"sha1", []string{"sha1=" + sign("new", body)[:40]}, "", 0},
		{"doubled", []string{good, good}, "", 0},
		{"doubled, one wrong", []string{good, "sha256=" + sign("wrong", body)}, "", 0},
		{"doubled in one line", []string{good + ", " + good}, "", 0},
	} {
		m, ok := keys.Check(c.values, []byte(body))
		if ok != (c.page != "") || m.Page != c.page || m.Index != c.index {
			t.Errorf("%s: %v %+v", c.name, ok, m)
		}
	}
}

func TestMaySign(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		secret, page string
		may          bool
	}{
		{"new", "A", true},
		{"old", "A", true},
		{"new", "B", true},
		{"old", "B", false},
		{"other", "A", false},
		{"other", "C", true},
		{"new", "C", false},
		{"other", "somebody else", true},
	} {
		m, ok := keys.Check([]string{"sha256=" + sign(c.secret, "x")}, []byte("x"))
		if !ok || keys.MaySign(m, c.page) != c.may {
			t.Errorf("%s signs for %s: %v", c.secret, c.page, !c.may)
		}
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	for token, known := range map[string]bool{"verify-a": true, "verify-c": true, "": false, "verify-": false, "verify-a ": false, "VERIFY-A": false} {
		if keys.Verify(token) != known {
			t.Errorf("%q: %v", token, !known)
		}
	}
	if New(pages.File{}).Verify("") {
		t.Error("without pages an empty token is taken")
	}
}
