package lifecycle_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"testing"

	"github.com/onebell/onebell/pkg/admin"
	"github.com/onebell/onebell/pkg/door"
	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/pkg/redislua"
	"github.com/onebell/onebell/pkg/reload"
	"github.com/onebell/onebell/pkg/rpc"
)

// What a program finds out about its settings only when it uses them ends it like what it finds out when it reads them.
func TestABadSettingIsExitStatus2(t *testing.T) {
	t.Parallel()
	log, missing := slog.New(slog.DiscardHandler), filepath.Join(t.TempDir(), "missing")
	beyond := &net.TCPAddr{IP: net.IPv4zero, Port: 1}
	_, file := reload.Open(missing, func([]byte) (int, error) { return 0, nil }, log, &admin.Readiness{})
	_, noIdentity := door.Open(beyond, door.Settings{}, log, &admin.Readiness{})
	_, noTokens := door.Open(beyond, door.Settings{TokensFile: missing}, log, &admin.Readiness{})
	_, insecure := door.Open(beyond, door.Settings{Insecure: "no"}, log, &admin.Readiness{})
	_, redis := redislua.Open("http://127.0.0.1")
	_, bearer := rpc.ClientSettings{TokenFile: missing}.Token()
	for name, err := range map[string]error{
		"file": file, "no identity": noIdentity, "no tokens": noTokens, "insecure": insecure, "redis": redis, "bearer": bearer,
	} {
		if got := lifecycle.Status(fmt.Errorf("service: %w", err)); got != lifecycle.ExitBadUsage {
			t.Errorf("%s: %v: exit status %d, want 2", name, err, got)
		}
	}
	if got := lifecycle.Status(errors.New("the port is taken")); got != lifecycle.ExitFailed {
		t.Errorf("something else: exit status %d, want 1", got)
	}
	if got := lifecycle.Status(nil); got != lifecycle.ExitDone {
		t.Errorf("nothing: exit status %d, want 0", got)
	}
}
