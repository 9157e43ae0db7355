// Package e2e_test walks the whole road through the real programs, from a signed webhook to the Send API, and does to them
// what will happen to them: kills, lost data, servers that are away, input that cannot be read.
package e2e_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/onebell/onebell/deploy/e2e/rig"
)

var page = rig.ThePage

func TestMain(m *testing.M) {
	flag.Parse()
	// The tests mostly wait for the programs that they drive, so more of them run at a time than there are processors.
	if !given("test.parallel") {
		_ = flag.Set("test.parallel", "4")
	}
	status := 1
	if _, err := rig.Program("onebell"); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		status = m.Run()
	}
	rig.RemovePrograms()
	os.Exit(status)
}

func given(name string) (yes bool) {
	flag.Visit(func(f *flag.Flag) { yes = yes || f.Name == name })
	return yes
}
