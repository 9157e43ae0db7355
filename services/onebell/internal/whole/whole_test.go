package whole_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/onebell/onebell/services/onebell/internal/whole"
)

func TestWriteReplacesAtOnceAndLeavesNothingElse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, content := range []string{"one", "two"} {
		if err := whole.Write(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("%q, %v", got, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left beside it: %v, %v", entries, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := whole.Write(filepath.Join(dir, "missing", "f"), nil); err == nil {
		t.Error("written into a directory that is not there")
	}
}
