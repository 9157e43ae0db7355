// Package memory is the simulator's memory over restarts: an append-only file, a JSON record a line, of tokens issued and
// spent, people, and what else must not be forgotten. It knows no rule.
//
// A record is handed to the operating system before the act it tells of is answered, so it outlives a killed process. It
// is not synced to the disk: a stand-in need not outlive a power cut.
package memory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// What a record tells of.
const (
	Person  = "person"  // page, psid, name, locale, at
	Opened  = "opened"  // page, psid, at: the 24-hour window
	Issued  = "issued"  // token, page, psid, payload, at
	Told    = "told"    // token: its webhook was answered 200
	Spent   = "spent"   // token, message_id, at
	Advance = "advance" // offset: of the clock, in total
	Stock   = "stock"   // sku, body: the shop's desk
)

// Record is a line of the file.
type Record struct {
	What      string          `json:"what"`
	PageID    string          `json:"page_id,omitempty"`
	PSID      string          `json:"psid,omitempty"`
	Name      string          `json:"name,omitempty"`
	Locale    string          `json:"locale,omitempty"`
	Token     string          `json:"token,omitempty"`
	Payload   string          `json:"payload,omitempty"`
	MessageID string          `json:"message_id,omitempty"`
	SKU       string          `json:"sku,omitempty"`
	Body      json.RawMessage `json:"body,omitempty"`
	Offset    time.Duration   `json:"offset,omitempty"`
	At        time.Time       `json:"at,omitzero"`
}

// File is the open file. A nil *File remembers nothing.
type File struct {
	f      *os.File
	length int64
}

// Open reads the file, which may not exist yet, and opens it for more. A last line that a kill cut short is dropped: what
// it told of was not answered. Mode 0600, because tokens stand in it.
func Open(path string) (*File, []Record, error) {
	if path == "" {
		return nil, nil, nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, err
	}
	records, length, err := read(f)
	if err == nil {
		err = f.Truncate(length)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return &File{f, length}, records, nil
}

func read(f io.Reader) (records []Record, length int64, err error) {
	content, err := io.ReadAll(f)
	if err != nil {
		return nil, 0, err
	}
	for n := 1; ; n++ {
		line, rest, whole := bytes.Cut(content, []byte("\n"))
		if !whole {
			return records, length, nil
		}
		var r Record
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, 0, fmt.Errorf("line %d: %w", n, err)
		}
		records = append(records, r)
		length += int64(len(line)) + 1
		content = rest
	}
}

// Append writes records, whole or not at all as far as a later Open is concerned. Not safe for concurrent use.
func (m *File) Append(records ...Record) error {
	if m == nil {
		return nil
	}
	var lines []byte
	for _, r := range records {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		lines = append(append(lines, line...), '\n')
	}
	if _, err := m.f.WriteAt(lines, m.length); err != nil { // half a line is overwritten by the next one
		return fmt.Errorf("remember: %w", err)
	}
	m.length += int64(len(lines))
	return nil
}

// Close closes the file.
func (m *File) Close() error {
	if m == nil {
		return nil
	}
	return m.f.Close()
}
