package reload_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onebell/onebell/pkg/admin"
	"github.com/onebell/onebell/pkg/reload"
)

func TestABadVersionIsRefusedAndTheOldOneStays(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "n.yaml")
	write := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const gone = "" // the file is not there for a moment, as while it is replaced
	write("1")
	synctest.Test(t, func(t *testing.T) {
		var ready admin.Readiness
		f, err := reload.Open(path, func(b []byte) (int, error) { return strconv.Atoi(string(b)) }, slog.New(slog.DiscardHandler), &ready)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = f.Watch(ctx) }()
		for _, step := range []struct {
			content string
			want    int
			note    bool
		}{
			{"2", 2, false},
			{"x", 2, true},
			{gone, 2, true},
			{"x", 2, true},
			{"3", 3, false},
			{gone, 3, true},
			{"3", 3, false}, // as it was: the remark must go, too
		} {
			if step.content == gone {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			} else {
				write(step.content)
			}
			time.Sleep(1100 * time.Millisecond) // virtual
			synctest.Wait()
			_, lines := ready.Report(ctx)
			if got := f.Get(); got != step.want || strings.Contains(strings.Join(lines, ""), "refused") != step.note {
				t.Errorf("after %q: %d, %v", step.content, got, lines)
			}
		}
	})
}

func TestAFileThatTheTextNamesIsReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, token := filepath.Join(dir, "n.yaml"), filepath.Join(dir, "token")
	write := func(path, s string) {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(path, token)
	write(token, "old")
	synctest.Test(t, func(t *testing.T) {
		var ready admin.Readiness
		parses := 0
		f, err := reload.Open(path, func(b []byte) ([]string, error) {
			parses++
			content, err := os.ReadFile(string(b))
			return []string{string(content)}, err
		}, slog.New(slog.DiscardHandler), &ready, reload.NamesFiles())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = f.Watch(ctx) }()
		check := func(want string, refused bool) {
			t.Helper()
			time.Sleep(6 * time.Second) // virtual
			synctest.Wait()
			_, lines := ready.Report(ctx)
			if got := f.Get()[0]; got != want || strings.Contains(strings.Join(lines, ""), "refused") != refused {
				t.Errorf("%q, want %q; %v", got, want, lines)
			}
		}
		first := &f.Get()[0]
		check("old", false)
		if &f.Get()[0] != first {
			t.Error("the same content was put in force again")
		}
		write(token, "new")
		check("new", false)
		if err := os.Remove(token); err != nil {
			t.Fatal(err)
		}
		check("new", true)
		write(token, "new") // as it was: the remark must go
		check("new", false)
		if parses > 6 {
			t.Errorf("parsed %d times in 24 s, want about every 5 s", parses)
		}
	})
}
