package source

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/internal/usercode"
)

// Source is a member's side of its app's source, for all terms.
//
// New makes it. The member calls SetUp first, if there is a Retriever; then Term, for one term after the other; then
// End. Any goroutine may call Refetch and Hangs at any time.
type Source struct {
	o     Options
	calls calls
	news  atomic.Bool          // Refetch was called, and no fetch has begun since
	term  atomic.Pointer[Term] // the current term; nil if there is none
	stage atomic.Int32         // one of the stages
}

// The stages of a Source.
const (
	stageNew   int32 = iota
	stageSetUp       // Setup has succeeded, so that TearDown is due
	stageEnded
)

// New makes the Source of a member. It starts nothing.
func New(o Options) *Source {
	s := &Source{o: o}
	s.calls.o = &s.o
	return s
}

// Refetch makes the coordinator ask the source again soon: now if this member coordinates, or else at the beginning of
// its next term.
func (s *Source) Refetch() {
	s.news.Store(true)
	if t := s.term.Load(); t != nil {
		t.refetch()
	}
}

// Hangs says whether a Fetch has not returned yet.
func (s *Source) Hangs() bool {
	_, hangs := s.calls.hangs()
	return hangs
}

// SetUp calls the Retriever's Setup. It does not wait for a Setup that ignores its context. Where that succeeds after
// all, or only after End was called, TearDown follows at once.
func (s *Source) SetUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.FetchTimeout)
	defer cancel()
	err := bounded(ctx, s.o.Retriever.Setup, func(late error) {
		if late == nil {
			s.tearDownLate()
		}
	})
	if err != nil {
		return err
	}
	if !s.stage.CompareAndSwap(stageNew, stageSetUp) {
		s.tearDownLate()
	}
	return nil
}

func (s *Source) tearDownLate() {
	if err := s.tearDown(); err != nil {
		s.o.Log.Warn("cannot tear down a retriever that was set up too late", zap.Error(err))
	}
}

// End lets no call of the user's code begin any more, waits for the calls in progress, and calls TearDown. It does
// nothing if SetUp has not succeeded. It is called once, after the last Term was left. It waits for no call longer than
// FetchTimeout, and ends soon after Hurry is closed. The error says which calls were left behind, and what TearDown
// returned.
func (s *Source) End() error {
	if s.stage.Swap(stageEnded) != stageSetUp {
		return nil
	}
	var errs []error
	if err := s.calls.end(); err != nil {
		errs = append(errs, err)
	}
	if err := s.tearDown(); err != nil {
		errs = append(errs, fmt.Errorf("tear down the retriever: %w", err))
	}
	return errors.Join(errs...)
}

// tearDown calls the Retriever's TearDown. It does not wait for a TearDown that ignores its context, which ends after
// FetchTimeout, or usercode.Grace after Hurry is closed.
func (s *Source) tearDown() error {
	limited, cancelTimeout := context.WithTimeout(context.Background(), s.o.FetchTimeout)
	defer cancelTimeout()
	ctx, cancel := context.WithCancelCause(limited)
	var hurrying sync.WaitGroup
	hurrying.Go(func() {
		select {
		case <-s.o.Hurry:
		case <-ctx.Done():
			return
		}
		if pace.Wait(ctx, usercode.Grace) {
			cancel(errors.New("it did not return in the time that Stop had"))
		}
	})
	defer hurrying.Wait()
	defer cancel(nil)
	return bounded(ctx, s.o.Retriever.TearDown, func(error) {})
}

// bounded calls f, which is the user's code, and returns when f does, or when ctx ends. If f returns after that,
// bounded passes its error to late.
func bounded(ctx context.Context, f func(context.Context) error, late func(error)) error {
	answer := make(chan error, 1)
	var decided atomic.Bool // set by whichever comes first
	usercode.Detached(func() error { return f(ctx) }, func(err error) {
		if decided.CompareAndSwap(false, true) {
			answer <- err
		} else {
			late(err)
		}
	})
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		if decided.CompareAndSwap(false, true) {
			return context.Cause(ctx)
		}
		return <-answer
	}
}
