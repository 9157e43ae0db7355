package intake_test

import (
	"testing"

	"github.com/onebell/onebell/pkg/fault"
	"github.com/onebell/onebell/services/token/internal/intake"
)

// A message of TRIES that cannot be read is put aside: it once stopped every rebuild.
func TestABadTryIsInvalid(t *testing.T) {
	t.Parallel()
	if _, err := intake.Tries([]byte{0xff}); fault.Of(err).Kind != fault.Invalid {
		t.Errorf("%v: %v, want invalid", err, fault.Of(err).Kind)
	}
}
