// Package whole writes files that are there whole or not at all, whatever happens meanwhile.
package whole

import (
	"errors"
	"os"
	"path/filepath"
)

// Write puts a file in place at once, readable for its owner only. When it returns, the file is on disk.
func Write(path string, content []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = temp.Write(content)
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(temp.Name())
		return err
	}
	dir, err := os.Open(filepath.Dir(path)) //nolint:gosec // where we have just written
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
