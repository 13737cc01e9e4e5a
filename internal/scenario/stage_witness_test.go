package scenario_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
)

// given is what a Handle was given.
type given struct {
	ctx   context.Context
	claim drm.Claim
}

// isOver reports whether the handling must be over: its context has ended, and its claim is not valid any more.
func (g given) isOver() bool { return g.ctx.Err() != nil && !g.claim.Valid() }

func (g given) String() string {
	return fmt.Sprintf("token %d, context: %v, valid: %v", g.claim.Token, context.Cause(g.ctx), g.claim.Valid())
}

// witness keeps what each Handle was given, by member and resource.
type witness struct {
	mu  sync.Mutex
	all map[string]given
}

func (s *witness) saw(ctx context.Context, c drm.Claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[string]given{}
	}
	s.all[c.Member+"/"+c.Resource.ID] = given{ctx, c}
}

func (s *witness) of(member, resource string) (given, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.all[member+"/"+resource]
	return g, ok
}

// await polls until ok returns true, for as long as a slow machine may need.
func await(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			tb.Fatalf("not in time: %s", what)
		}
	}
}

// logged waits until there are n lines with a text, and returns all such lines. A line may come after its effect shows.
func logged(tb testing.TB, logs *observer.ObservedLogs, text string, n int) []observer.LoggedEntry {
	tb.Helper()
	await(tb, fmt.Sprintf("%d lines with %q", n, text), func() bool {
		return logs.FilterMessageSnippet(text).Len() >= n
	})
	return logs.FilterMessageSnippet(text).All()
}

// allocate allocates resources without data.
func (w *world) allocate(ids ...string) {
	w.tb.Helper()
	for _, id := range ids {
		if err := w.client().Allocate(w.tb.Context(), drm.Resource{ID: id}); err != nil {
			w.tb.Fatal(err)
		}
	}
}
