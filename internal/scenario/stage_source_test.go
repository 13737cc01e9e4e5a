package scenario_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// ids makes n ids.
func ids(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("r%d", i)
	}
	return all
}

// resources makes resources of ids.
func resources(ids ...string) []drm.Resource {
	all := make([]drm.Resource, len(ids))
	for i, id := range ids {
		all[i] = drm.Resource{ID: id, Data: json.RawMessage(fmt.Sprintf(`{"id":%q}`, id))}
	}
	return all
}

// source is a Retriever whose answer can be changed.
type source struct {
	mu      sync.Mutex
	answer  []drm.Resource
	err     error
	fetches int
	setups  int
	downs   int
	api     drm.API
	onFetch func(context.Context)
}

func newSource(ids ...string) *source { return &source{answer: resources(ids...)} }

func (s *source) set(answer []drm.Resource, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer, s.err = answer, err
}

func (s *source) Setup(_ context.Context, api drm.API) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setups++
	s.api = api
	return nil
}

func (s *source) Fetch(ctx context.Context) ([]drm.Resource, error) {
	s.mu.Lock()
	hook := s.onFetch
	s.mu.Unlock()
	if hook != nil {
		hook(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fetches++
	return slices.Clone(s.answer), s.err
}

func (s *source) TearDown(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.downs++
	return nil
}

func (s *source) counts() (setups, fetches, downs int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.setups, s.fetches, s.downs
}

// staysAt waits until the source has been asked fetches times, and fails the test if it is asked more often. It waits
// for quiet, in which the source would be asked if it were to be.
func (s *source) staysAt(tb testing.TB, fetches int, quiet time.Duration) {
	tb.Helper()
	await(tb, "the source was asked", func() bool { _, now, _ := s.counts(); return now >= fetches })
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	<-timer.C
	if _, now, _ := s.counts(); now != fetches {
		tb.Errorf("the source was asked %d times, want %d", now, fetches)
	}
}
