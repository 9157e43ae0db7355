package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/onebell/onebell/deploy/e2e/rig"
	"github.com/onebell/onebell/proto/topology"
)

var example = regexp.MustCompile("(?s)```sh\n# publish: (\\w+)\n(.*?)```")

// The README's examples of publishing an event, as they stand there, but for the default addresses.
func TestReadmeExamples(t *testing.T) {
	t.Parallel()
	root, err := rig.Root()
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	program, err := rig.Program("onebell")
	if err != nil {
		t.Fatal(err)
	}
	m := rig.NewMachine(t, rig.Options{Graph: rig.NewGraph(t)})
	here := strings.NewReplacer("http://127.0.0.1:8082", m.Addr.AlertHTTP, "nats://127.0.0.1:4222", m.Addr.NATS, "bin/onebell", program)

	examples := example.FindAllStringSubmatch(string(readme), -1)
	if len(examples) != 3 {
		t.Fatalf("%d examples in README.md, expected three", len(examples))
	}
	for _, e := range examples {
		door, script := e[1], here.Replace(e[2])
		cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "ONEBELL_READY_FILE="+m.ReadyFile)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", door, err, out)
		}
	}
	for _, subject := range []string{"inventory.stock.RAD-SHIRT-M", "inventory.price.RAD-SHIRT-M", "inventory.sale.TICKETS-ROSE"} {
		if n := len(m.Messages(topology.Inventory, subject)); n != 1 {
			t.Errorf("%d events on %s, expected 1", n, subject)
		}
	}
	rig.Eventually(t, "the three events are judged", func() bool {
		judge, err := m.JS.Consumer(t.Context(), topology.Inventory, "alert")
		return err == nil && judge.CachedInfo().AckFloor.Stream == 3
	})
	if dead := m.Messages(topology.Dead, topology.DeadSubject(topology.Inventory)); len(dead) != 0 {
		t.Errorf("%d dead letters, expected none", len(dead))
	}
}
