package door_test

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onebell/onebell/pkg/admin"
	"github.com/onebell/onebell/pkg/door"
)

var beyond = &net.TCPAddr{IP: net.IPv4zero, Port: 7001}

func open(t *testing.T, addr net.Addr, content string) (*door.Door, error) {
	t.Helper()
	s := door.Settings{}
	if content != "" {
		s.TokensFile = filepath.Join(t.TempDir(), "tokens")
		if err := os.WriteFile(s.TokensFile, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return door.Open(addr, s, slog.New(slog.DiscardHandler), &admin.Readiness{})
}

func TestLoopbackNeedsNoIdentity(t *testing.T) {
	t.Parallel()
	d, err := open(t, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, "")
	if err != nil || d.Admit("", nil) != nil {
		t.Errorf("loopback: %v, %v", d, err)
	}
}

func TestBeyondLoopbackRefusesToBeWithoutTokens(t *testing.T) {
	t.Parallel()
	if _, err := open(t, beyond, ""); err == nil || !strings.Contains(err.Error(), "ONEBELL_API_TOKENS_FILE") {
		t.Errorf("err = %v", err)
	}
	d, err := door.Open(beyond, door.Settings{Insecure: "yes"}, slog.New(slog.DiscardHandler), &admin.Readiness{})
	if err != nil || d.Admit("", nil) != nil {
		t.Errorf("insecure: %v, %v", d, err)
	}
}

func TestWhoComesIn(t *testing.T) {
	t.Parallel()
	d, err := open(t, beyond, "# names\nwms publisher 0123456789abcdef\nboss admin fedcba9876543210\n")
	if err != nil {
		t.Fatal(err)
	}
	h := d.HTTP(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), door.Publisher)
	only := d.HTTP(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), door.Operator)
	for _, c := range []struct {
		name, header string
		h            http.Handler
		want         int
	}{
		{"no token", "", h, 401},
		{"wrong token", "Bearer 0123456789abcdeg", h, 401},
		{"another scheme", "Basic 0123456789abcdef", h, 401},
		{"publisher", "Bearer 0123456789abcdef", h, 200},
		{"publisher at the operators' door", "Bearer 0123456789abcdef", only, 403},
		{"admin everywhere", "Bearer fedcba9876543210", only, 200},
	} {
		r := httptest.NewRequest(http.MethodPost, "/v1/events", http.NoBody)
		r.Header.Set("Authorization", c.header)
		w := httptest.NewRecorder()
		c.h.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s: %d, want %d", c.name, w.Code, c.want)
		}
	}
}

func TestABadTokensFileIsRefusedWithoutShowingTokens(t *testing.T) {
	t.Parallel()
	_, err := open(t, beyond, "a publisher\nb king 0123456789abcdef\nc admin short\n")
	if err == nil {
		t.Fatal("want an error")
	}
	for _, want := range []string{"line 1", "line 2", "line 3"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "0123456789abcdef") || strings.Contains(err.Error(), "short\"") {
		t.Errorf("the error shows a token: %v", err)
	}
}
