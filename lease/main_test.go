package lease_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

func TestMain(m *testing.M) { embeddedtest.VerifyTestMain(m) }

// long is more time than anything takes, even on a machine that is busy with other things.
const long = 30 * time.Second

func within(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), long)
	tb.Cleanup(cancel)
	return ctx
}

// receive waits for a value.
func receive[T any](tb testing.TB, what string, c <-chan T) T {
	tb.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(long):
		tb.Fatalf("waited %v for %s", long, what)
		panic("unreachable")
	}
}

func wantErr(tb testing.TB, what string, err error, wants ...error) {
	tb.Helper()
	for _, want := range wants {
		if !errors.Is(err, want) {
			tb.Errorf("%s: got error %v, want one that is %q", what, err, want)
		}
	}
}
