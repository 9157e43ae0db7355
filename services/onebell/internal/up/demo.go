package up

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/onebell/onebell/services/onebell/internal/whole"
)

//go:embed demo/pages.yaml demo/rules.yaml
var demoShop embed.FS

// demoFile writes one of the demo shop's files into the data directory and gives its path. One that is there stays as it
// is: it may have been edited.
func demoFile(dir, name string) (string, error) {
	path := filepath.Join(dir, "demo", name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("demo shop: %w", err)
	}
	content, err := demoShop.ReadFile("demo/" + name)
	if err != nil {
		return "", fmt.Errorf("demo shop: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("demo shop: %w", err)
	}
	if err := whole.Write(path, content); err != nil {
		return "", fmt.Errorf("demo shop: %w", err)
	}
	return path, nil
}
