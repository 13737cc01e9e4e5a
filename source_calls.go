package drm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/usercode"
)

// sourceError marks what the source is to blame for; everything else that makes a fetch fail is etcd's. It does not unwrap
// to the user's own error: to look through that would be to call its methods, on a goroutine that must not wait for them.
type sourceError struct {
	err     error         // its text is known; it unwraps to the user's own, for the user
	advised bool          // the error is a Retryable, which said:
	after   time.Duration // how long the source wants to be left alone
	again   bool          // whether to try again makes sense
	hangs   bool          // a Fetch has not returned, though its context has ended
}

func (e *sourceError) Error() string { return e.err.Error() }

// judged takes down all that an error of Fetch has to say. It is called in the goroutine of that Fetch, within its limits:
// Retryable, Is, As and Unwrap are the user's code, as Error is.
func judged(err error) *sourceError {
	e := &sourceError{err: told(err)}
	_ = safely(func() error { // where one of them panics, the error has no advice
		var advice Retryable
		if errors.As(err, &advice) {
			after, again := advice.Retryable()
			e.advised, e.after, e.again = true, after, again
		}
		return nil
	})
	return e
}

// sourceAnswer is what came of a Fetch, in plain values.
type sourceAnswer struct {
	resources  []Resource
	bad        *BadItemsError // what of the answer is no resource; nil: all of it is
	before     string         // what the error said before that, such as where the answer is from
	unchanged  bool           // ErrNotModified
	everything bool           // it was asked for everything, so that unchanged is no answer
	failed     error          // a *sourceError; nil where it succeeded
}

// sourceCalls are the calls of the user's code that a coordinator makes. They belong to the Manager and not to a term: one
// that does not return is left behind by its term, and none of its kind begins before it has returned.
type sourceCalls struct {
	m *Manager

	mu       sync.Mutex
	over     bool          // none begins any more
	fetching chan struct{} // closed when Fetch has returned; nil while it does not run
	began    time.Duration // when the last Fetch did, on the clock that leases are measured by
	untaken  bool          // a Fetch has returned resources since the last answer that became the catalogue
	telling  chan struct{} // closed when OnSourceError has returned; nil while it does not run
	next     error         // what it is to be told then
}

// hangs says whether a Fetch has not returned, and since when it runs.
func (s *sourceCalls) hangs() (since time.Duration, yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.began, s.fetching != nil
}

// free returns an error where no Fetch may begin.
func (s *sourceCalls) free() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.freeLocked()
}

func (s *sourceCalls) freeLocked() error {
	switch {
	case s.over:
		return &sourceError{err: ErrStopped}
	case s.fetching != nil:
		ago := (s.m.now() - s.began).Round(time.Millisecond)
		return &sourceError{err: fmt.Errorf("a Fetch that began %v ago has still not returned", ago), hangs: true}
	}
	return nil
}

// begin lets a Fetch begin, if it may. untaken says that what it returned before was never made the catalogue: it came too
// late, or was refused, and yet the Retriever takes it for delivered.
func (s *sourceCalls) begin() (untaken bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.freeLocked(); err != nil {
		return false, err
	}
	s.fetching, s.began = make(chan struct{}), s.m.now()
	return s.untaken, nil
}

// taken says that what Fetch returned has become the catalogue.
func (s *sourceCalls) taken() {
	s.mu.Lock()
	s.untaken = false
	s.mu.Unlock()
}

// returned is for the end of a Fetch. delivered says that it returned resources.
func (s *sourceCalls) returned(delivered bool) {
	s.mu.Lock()
	s.untaken = s.untaken || delivered
	close(s.fetching)
	s.fetching = nil
	s.mu.Unlock()
	s.m.group.wake() // it may wait for this to stand for coordinator again
}

// ask calls Fetch, with its timeout, and does not wait for one that ignores its context; what that returns in the end is
// thrown away. Where everything is wanted, or what it returned last was not taken, a Retriever that leaves out what it
// returned before is told so first, in the same goroutine and time.
func (s *sourceCalls) ask(ctx context.Context, everything bool) sourceAnswer {
	timeout := s.m.cfg.FetchTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the source did not answer within %v", timeout))
	defer cancel()
	untaken, err := s.begin()
	if err != nil {
		return sourceAnswer{failed: err}
	}
	everything = everything || untaken
	answers := make(chan sourceAnswer, 1)
	var a sourceAnswer
	detached(func() error {
		a = s.fetch(ctx, everything)
		return nil
	}, func(err error) {
		if err != nil { // it panicked, or ended its goroutine
			a = sourceAnswer{failed: &sourceError{err: err}}
		}
		a.everything = everything
		s.returned(a.failed == nil && !a.unchanged) // first: whoever has the answer may ask again at once
		answers <- a
	})
	select {
	case a := <-answers:
		if ctx.Err() != nil && (a.unchanged || a.failed != nil) { // that its time was up says more
			a = sourceAnswer{failed: &sourceError{err: fmt.Errorf("fetch: %w", context.Cause(ctx))}}
		}
		return a
	case <-ctx.Done():
		return sourceAnswer{failed: &sourceError{err: fmt.Errorf("fetch: %w", context.Cause(ctx)), hangs: true}}
	}
}

// fetch calls Fetch, and takes down what it returns.
func (s *sourceCalls) fetch(ctx context.Context, everything bool) sourceAnswer {
	if f, ok := s.m.cfg.Retriever.(Forgetter); ok && everything {
		if p := safely(func() error { f.Forget(); return nil }); p != nil {
			s.m.log.Error("Forget panicked", zap.Error(p))
		}
	}
	resources, err := s.m.cfg.Retriever.Fetch(ctx)
	if err == nil {
		return sourceAnswer{resources: resources}
	}
	if bad, before := badItemsOf(err); bad != nil {
		return sourceAnswer{resources: resources, bad: bad, before: before}
	}
	switch {
	case matches(err, ErrNotModified):
		return sourceAnswer{unchanged: true}
	default:
		return sourceAnswer{failed: judged(err)}
	}
}

// tell calls OnSourceError in a goroutine of its own, and waits for nothing. While a call is in progress, the latest of what
// comes meanwhile is kept for the next one.
func (s *sourceCalls) tell(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.m.cfg.OnSourceError == nil || s.over:
	case s.telling != nil:
		s.next = err
	default:
		s.telling = make(chan struct{})
		s.callLocked(err)
	}
}

// callLocked begins a call of OnSourceError, and another one when it has returned, if there is more to tell by then. s.mu is
// held.
func (s *sourceCalls) callLocked(err error) {
	detached(func() error { s.m.cfg.OnSourceError(err); return nil }, func(failed error) {
		if failed != nil {
			s.m.log.Error("OnSourceError panicked", zap.Error(failed))
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if next := s.next; next != nil {
			s.next = nil
			s.callLocked(next)
			return
		}
		close(s.telling)
		s.telling = nil
	})
}

// end lets no call begin any more and waits for those in progress, which TearDown must not take anything away from. The
// context of a Fetch has ended: one that ignores that is waited for no longer than a Fetch may take, and OnSourceError no
// longer than usercode.Grace, both only until Stop is to wait no longer. The error says what was left behind.
func (s *sourceCalls) end() error {
	s.mu.Lock()
	s.over, s.next = true, nil
	fetching, telling := s.fetching, s.telling
	s.mu.Unlock()
	var left []string
	if !s.await(fetching, s.m.cfg.FetchTimeout) {
		left = append(left, "Fetch")
	}
	if !s.await(telling, usercode.Grace) {
		left = append(left, "OnSourceError")
	}
	if len(left) == 0 {
		return nil
	}
	return fmt.Errorf("stop: %w: a call of %s has not returned", ErrLeftBehind, strings.Join(left, ", and one of "))
}

// await waits for the end of a call; nil stands for one that has ended. False says that it was waited for no longer.
func (s *sourceCalls) await(returned <-chan struct{}, most time.Duration) bool {
	if returned == nil {
		return true
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-returned:
		return true
	case <-timer.C:
	case <-s.m.hurry:
	}
	select {
	case <-returned: // as well
		return true
	default:
		return false
	}
}
