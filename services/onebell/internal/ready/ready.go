// Package ready is the ready file: where a running `onebell up` says at which addresses it is found. It asks no service.
package ready

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/onebell/onebell/services/onebell/internal/whole"
)

// Variable names the ready file, for `onebell up` and for its clients.
const Variable = "ONEBELL_READY_FILE"

// File is the content: every address is the one that was actually bound.
type File struct {
	Webhook      string `json:"webhook"`
	DataDeletion string `json:"data_deletion"`
	TokenGRPC    string `json:"token_grpc"`
	AlertGRPC    string `json:"alert_grpc"`
	AlertHTTP    string `json:"alert_http"`
	Console      string `json:"console"`
	Simulator    string `json:"simulator"`
	Admin        string `json:"admin"`
	NATS         string `json:"nats"`
	Redis        string `json:"redis"`
	PID          int    `json:"pid"`
}

// Write puts the file in place at once: whoever sees it sees all of it. Readable for its owner only, for the addresses
// of NATS and Redis may hold passwords.
func Write(path string, f File) error {
	content, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	if err := whole.Write(path, append(content, '\n')); err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	return nil
}

// Remove takes the file away; one that is not there is no error.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("ready file: %w", err)
	}
	return nil
}

// Read reads the file.
func Read(path string) (File, error) {
	content, err := os.ReadFile(path) //nolint:gosec // named by the user
	if err != nil {
		return File{}, err
	}
	var f File
	if err := json.Unmarshal(content, &f); err != nil {
		return File{}, fmt.Errorf("%s: not a ready file: %w", path, err)
	}
	return f, nil
}
