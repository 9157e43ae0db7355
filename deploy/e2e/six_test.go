package e2e_test

import (
	"testing"

	"github.com/onebell/onebell/deploy/e2e/rig"
)

// The same road through six programs against an outside NATS and Redis; then each of them is killed and started again, and
// the road goes on.
func TestSixPrograms(t *testing.T) {
	t.Parallel()
	graph := rig.NewGraph(t)
	six := rig.NewSix(t, graph, page)
	six.Tap(page, "anna", rig.Token("anna"), "stock:RIESLING")
	six.Stock(page, "wms-1", "RIESLING", 5)
	graph.Await(1)
	six.AwaitState(page, "anna", rig.Token("anna"), spent)
	six.Tap(page, "ben", rig.Token("ben"), "stock:RAD-SHIRT-M")

	for _, name := range rig.Services {
		six.Program(name).Kill()
	}
	for _, name := range rig.Services {
		six.Start(name)
	}
	for _, name := range rig.Services {
		six.AwaitReady(name)
	}
	six.Stock(page, "wms-2", "RAD-SHIRT-M", 5)
	graph.Await(2)
	six.AwaitState(page, "ben", rig.Token("ben"), spent)
	six.Quiet()
	if n := len(graph.Calls()); n != 2 {
		t.Errorf("%d calls, expected 2", n)
	}
	for _, name := range rig.Services {
		six.Program(name).Stop()
	}
}
