package up

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestADirectoryHasOneHolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	release, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = lockDir(dir)
	if err == nil || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second lock: %v, want the directory and the holder named", err)
	}
	release()
	release, err = lockDir(dir)
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	release()
}
