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

// Source is what a member has of its app's source, whatever the term.
//
// New makes it. SetUp comes first, where there is a Retriever; then one Term after the other; then End. Refetch and
// Hangs may be called by any goroutine, at any time.
type Source struct {
	o     Options
	calls calls
	news  atomic.Bool          // the Retriever has asked for a fetch, and none has begun since
	term  atomic.Pointer[Term] // that has been entered, and not been left
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

// Refetch makes the source be asked again soon: now if this member coordinates, or at the beginning of its next term.
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

// SetUp calls the Retriever's Setup, and does not wait for one that ignores its context. If that succeeds after all, or
// only when End was called, its TearDown follows at once, since nothing else will come of it.
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

// End lets no call of the user's code begin any more, waits for those in progress, and calls TearDown where SetUp has
// succeeded. It is called once, when the last Term has been left. It waits for nothing longer than FetchTimeout, nor
// much longer than until Hurry is closed. The error says what was left behind, and what TearDown returned.
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

// tearDown calls the Retriever's TearDown, and does not wait for one that ignores its context: no longer than
// usercode.Grace once Hurry is closed.
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

// bounded calls the user's code, and returns when it does, or when ctx ends. Where it returns after that, its error
// goes to late.
func bounded(ctx context.Context, f func(context.Context) error, late func(error)) error {
	answer := make(chan error, 1)
	var decided atomic.Bool // by whichever comes first
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
