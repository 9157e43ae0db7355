package memory_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onebell/onebell/services/simulator/internal/memory"
)

func TestALineThatAKillCutShortIsDropped(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state")
	m, records, err := memory.Open(path)
	if err != nil || len(records) != 0 {
		t.Fatal(records, err)
	}
	if err := m.Append(memory.Record{What: memory.Issued, Token: "a"}, memory.Record{What: memory.Spent, Token: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	cut, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cut.WriteString(`{"what":"issued","tok`); err != nil {
		t.Fatal(err)
	}
	_ = cut.Close()

	m, records, err = memory.Open(path)
	if err != nil || len(records) != 2 {
		t.Fatalf("%d records, %v; want the two whole ones", len(records), err)
	}
	if err := m.Append(memory.Record{What: memory.Issued, Token: "b"}); err != nil {
		t.Fatal(err)
	}
	_ = m.Close()
	if _, records, err = memory.Open(path); err != nil || len(records) != 3 || records[2].Token != "b" {
		t.Errorf("after the cut: %+v, %v", records, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: tokens stand in it", info.Mode(), err)
	}
}

func TestAFileOfSomethingElseIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(path, []byte("not a journal\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := memory.Open(path); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("err = %v, want the line", err)
	}
}
