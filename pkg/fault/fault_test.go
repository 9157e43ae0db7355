package fault_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/onebell/onebell/pkg/fault"
)

func TestOf(t *testing.T) {
	t.Parallel()
	wrapped := fmt.Errorf("grant: %w", fault.Later(time.Second, "rebuilding", errors.New("not yet")))
	if f := fault.Of(wrapped); f.Kind != fault.Unavailable || f.Reason != "rebuilding" || f.After != time.Second {
		t.Errorf("Of = %+v", f)
	}
	if f := fault.Of(errors.New("x")); f.Kind != fault.Internal {
		t.Errorf("Of(plain) = %+v", f)
	}
}

func TestEveryKindHasItsOwnCode(t *testing.T) {
	t.Parallel()
	seen := map[codes.Code]fault.Kind{}
	for _, k := range fault.Kinds {
		if other, ok := seen[k.Code()]; ok {
			t.Errorf("%v and %v share %v", k, other, k.Code())
		}
		seen[k.Code()] = k
	}
}
