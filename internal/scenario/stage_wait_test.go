package scenario_test

import (
	"context"
	"strings"
	"testing"
	"time"
)

// waitSays lets a wait that is in vain run out of time, and returns its error. The time grows until the error says what
// the wait should have seen by then: a busy machine takes longer to look.
func waitSays(t *testing.T, want string, wait func(context.Context) error) error {
	t.Helper()
	for limit := 200 * time.Millisecond; ; limit *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		err := wait(ctx)
		cancel()
		switch {
		case err == nil:
			t.Fatal("a wait in vain succeeded")
		case strings.Contains(err.Error(), want):
			return err
		case limit > patience:
			t.Errorf("a wait that ran out says %q, want it to say %q", err, want)
			return err
		}
	}
}
