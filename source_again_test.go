package drm

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

func (unmodified) Setup(context.Context, API) error          { return nil }
func (unmodified) Fetch(context.Context) ([]Resource, error) { return nil, ErrNotModified }
func (unmodified) TearDown(context.Context) error            { return nil }

// A Fetch whose answer is there does not run any more: the next one may begin at once.
func TestTheNextFetchMayBeginOnceTheOneBeforeIsAnswered(t *testing.T) {
	m := &Manager{clock: clock.System(), log: zap.NewNop(), cfg: Config{Retriever: unmodified{}, FetchTimeout: time.Minute}}
	m.group, m.source = newGroup(m), &sourceCalls{m: m}
	for n := range 20_000 {
		a := m.source.ask(t.Context(), n%2 == 1)
		var failed *sourceError
		if errors.As(a.failed, &failed) {
			t.Fatalf("fetch %d: %v (hangs: %v)", n, a.failed, failed.hangs)
		}
		if !a.unchanged {
			t.Fatalf("fetch %d: not answered with ErrNotModified", n)
		}
	}
}
