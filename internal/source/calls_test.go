package source

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/clock"
)

// unmodified is a source in which nothing ever changes.
type unmodified struct{}

func (unmodified) Setup(context.Context) error    { return nil }
func (unmodified) TearDown(context.Context) error { return nil }
func (unmodified) Forget() error                  { return nil }
func (unmodified) Fetch(context.Context) Answer   { return Answer{Unchanged: true} }

// When the answer of a Fetch is there, the Fetch counts as returned: the next one may begin at once.
func TestTheNextFetchMayBeginOnceTheOneBeforeIsAnswered(t *testing.T) {
	s := New(Options{
		Retriever: unmodified{}, FetchTimeout: time.Minute, Now: clock.System().Now, Log: zap.NewNop(),
		FetchReturned: func() {},
	})
	for n := range 20_000 {
		a := s.calls.ask(t.Context(), n%2 == 1)
		var failed *sourceError
		if errors.As(a.failed, &failed) {
			t.Fatalf("fetch %d: %v (hangs: %v)", n, a.failed, failed.hangs)
		}
		if !a.Unchanged {
			t.Fatalf("fetch %d: not answered with Unchanged", n)
		}
	}
}
