package ready_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/onebell/onebell/services/onebell/internal/ready"
)

func TestTheFileIsWrittenWholeAndRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "ready.json")
	want := ready.File{Webhook: "http://127.0.0.1:8080/webhook", TokenGRPC: "127.0.0.1:7001", PID: 4711}
	if err := ready.Write(path, want); err != nil {
		t.Fatal(err)
	}
	got, err := ready.Read(path)
	if err != nil || got != want {
		t.Errorf("read %+v, %v", got, err)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("the directory holds %v, want the file alone", entries)
	}
	for range 2 {
		if err := ready.Remove(path); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
}

// The names are a contract with other programs.
func TestNames(t *testing.T) {
	t.Parallel()
	content, err := json.Marshal(ready.File{})
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(content, &object); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"webhook", "data_deletion", "token_grpc", "alert_grpc", "alert_http", "console", "simulator", "admin", "nats", "redis", "pid",
	}
	for _, name := range want {
		if _, ok := object[name]; !ok {
			t.Errorf("%q is missing", name)
		}
		delete(object, name)
	}
	for name := range object {
		if !slices.Contains(want, name) {
			t.Errorf("%q is not in the contract", name)
		}
	}
}

func TestRubbishIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ready.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ready.Read(path); err == nil {
		t.Error("rubbish was read")
	}
}
