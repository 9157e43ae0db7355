// Package reload keeps the parsed content of a file up to date. A bad new version is refused: the old one stays in force,
// and the log and the readiness page say so.
package reload

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onebell/onebell/pkg/admin"
	"github.com/onebell/onebell/pkg/fault"
)

// every is how often the file is looked at. Reading a few kilobytes costs nothing, and unlike change notices it works
// with every file system and with the symbolic links of a mounted ConfigMap.
const every = time.Second

// again is how often a text that names other files is parsed again although it is the same.
const again = 5 * time.Second

// Option changes how a file is looked at.
type Option func(*options)

type options struct{ namesFiles bool }

// NamesFiles says that parse reads more than its text: files that it names, like a mounted token. The same text is then
// parsed again every 5 s, and what comes of it is in force when it differs (reflect.DeepEqual) from what was.
func NamesFiles() Option { return func(o *options) { o.namesFiles = true } }

// File is a file and its last good content.
type File[T any] struct {
	path    string
	parse   func([]byte) (T, error)
	value   atomic.Pointer[T]
	log     *slog.Logger
	options options
	mu      sync.Mutex
	seen    []byte    // content last looked at, good or bad
	parsed  time.Time // when that was
	refused string    // why that content is not in force; empty: it is
	away    string    // why the file could not be read at the last look; empty: it could
}

// Open reads the file; it must be good the first time, else the error is a fault of kind Invalid. `ready` shows a refused version from then on.
func Open[T any](path string, parse func([]byte) (T, error), log *slog.Logger, ready *admin.Readiness, with ...Option) (*File[T], error) {
	f := &File[T]{path: path, parse: parse, log: log}
	for _, option := range with {
		option(&f.options)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.New(fault.Invalid, "bad_file", err)
	}
	value, err := parse(content)
	if err != nil {
		return nil, fault.New(fault.Invalid, "bad_file", fmt.Errorf("%s: %w", path, err))
	}
	f.seen, f.parsed = content, time.Now()
	f.value.Store(&value)
	ready.Note(filepath.Base(path), func() string {
		f.mu.Lock()
		defer f.mu.Unlock()
		return cmp.Or(f.away, f.refused)
	})
	return f, nil
}

// Get is the content in force.
func (f *File[T]) Get() T { return *f.value.Load() }

// Watch looks for new versions until ctx ends.
func (f *File[T]) Watch(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			f.look()
		}
	}
}

func (f *File[T]) look() {
	content, err := os.ReadFile(f.path)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.away = f.refuse(f.away, err)
		return
	}
	f.away = ""
	same := bytes.Equal(content, f.seen)
	if same && !(f.options.namesFiles && time.Since(f.parsed) >= again) {
		return
	}
	f.seen, f.parsed = content, time.Now()
	value, err := f.parse(content)
	if err != nil {
		f.refused = f.refuse(f.refused, err)
		return
	}
	f.refused = ""
	if same && reflect.DeepEqual(value, f.Get()) {
		return
	}
	f.value.Store(&value)
	f.log.Info("file reloaded", "file", f.path)
}

// refuse logs why the file is not in force, unless that was said already, and gives the words for the readiness page.
func (f *File[T]) refuse(said string, err error) string {
	reason := fmt.Sprintf("the new version is refused, the old one stays in force: %v", err)
	if reason != said {
		f.log.Error("file refused", "file", f.path, "err", err)
	}
	return reason
}
