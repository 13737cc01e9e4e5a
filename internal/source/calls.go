package source

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/usercode"
)

// sourceError is a failure of the source; every other error of a fetch is a failure of etcd. It does not unwrap to the
// user's own error, since errors.Is would call that error's methods, in a goroutine that must not wait for them.
type sourceError struct {
	Failure
	hangs bool // Fetch has not returned, though its context has ended
}

func (e *sourceError) Error() string { return e.Err.Error() }

// blame makes a failure of the source, without advice on when to try again.
func blame(err error) *sourceError { return &sourceError{Failure: Failure{Err: err}} }

// answer is the result of a call of Fetch.
type answer struct {
	Answer
	everything bool  // Forget was called before, so that Unchanged is no valid answer
	failed     error // a *sourceError; nil if the fetch succeeded
}

// calls are the calls of the user's code that a coordinator makes. They outlive a term: a call that does not return is
// left behind by its term, and no other call of its kind begins before it has returned.
type calls struct {
	o *Options

	mu       sync.Mutex
	over     bool          // no call may begin any more
	fetching chan struct{} // closed when Fetch has returned; nil while it does not run
	began    time.Duration // when the last Fetch began
	untaken  bool          // a Fetch has returned resources since the last answer that became the catalogue
	telling  chan struct{} // closed when OnError has returned; nil while it does not run
	next     error         // the error for the next call of OnError; nil if there is none
}

// hangs returns whether a Fetch has not returned, and since when it runs.
func (c *calls) hangs() (since time.Duration, yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.began, c.fetching != nil
}

// free returns an error if no Fetch may begin now.
func (c *calls) free() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.freeLocked()
}

func (c *calls) freeLocked() error {
	switch {
	case c.over:
		return blame(ErrStopped)
	case c.fetching != nil:
		ago := (c.o.Now() - c.began).Round(time.Millisecond)
		e := blame(fmt.Errorf("a Fetch that began %v ago has still not returned", ago))
		e.hangs = true
		return e
	}
	return nil
}

// begin notes that a Fetch begins, or returns an error if none may begin. untaken says that the resources of the last
// Fetch never became the catalogue: they came too late, or were refused, though the Retriever takes them for delivered.
func (c *calls) begin() (untaken bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.freeLocked(); err != nil {
		return false, err
	}
	c.fetching, c.began = make(chan struct{}), c.o.Now()
	return c.untaken, nil
}

// taken notes that the resources of the last Fetch have become the catalogue.
func (c *calls) taken() {
	c.mu.Lock()
	c.untaken = false
	c.mu.Unlock()
}

// returned notes that a Fetch has returned. delivered says that it returned resources.
func (c *calls) returned(delivered bool) {
	c.mu.Lock()
	c.untaken = c.untaken || delivered
	close(c.fetching)
	c.fetching = nil
	c.mu.Unlock()
	c.o.FetchReturned()
}

// ask calls Fetch, with its timeout. It does not wait for a Fetch that ignores its context, and drops what that returns
// in the end. If everything is wanted, or if the resources of the last Fetch were not taken, it calls Forget first, in
// the same goroutine and within the same time.
func (c *calls) ask(ctx context.Context, everything bool) answer {
	timeout := c.o.FetchTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the source did not answer within %v", timeout))
	defer cancel()
	untaken, err := c.begin()
	if err != nil {
		return answer{failed: err}
	}
	everything = everything || untaken
	answers := make(chan answer, 1)
	var a answer
	usercode.Detached(func() error {
		a = c.fetch(ctx, everything)
		return nil
	}, func(err error) {
		if err != nil { // the call ended its goroutine
			a = answer{failed: blame(err)}
		}
		a.everything = everything
		c.returned(a.failed == nil && !a.Unchanged) // before the send, since the receiver may ask again at once
		answers <- a
	})
	select {
	case a := <-answers:
		if ctx.Err() != nil && (a.Unchanged || a.failed != nil) { // the timeout explains more than the answer
			a = answer{failed: blame(fmt.Errorf("fetch: %w", context.Cause(ctx)))}
		}
		return a
	case <-ctx.Done():
		e := blame(fmt.Errorf("fetch: %w", context.Cause(ctx)))
		e.hangs = true
		return answer{failed: e}
	}
}

// fetch calls Fetch, and Forget before that if everything is wanted.
func (c *calls) fetch(ctx context.Context, everything bool) answer {
	if everything {
		if p := c.o.Retriever.Forget(); p != nil {
			c.o.Log.Error("Forget panicked", zap.Error(p))
		}
	}
	a := answer{Answer: c.o.Retriever.Fetch(ctx)}
	if a.Failure != nil {
		a.failed = &sourceError{Failure: *a.Failure}
	}
	return a
}

// tell calls OnError in a goroutine of its own, and does not wait for it. While a call is in progress, tell keeps the
// latest error for the next call.
func (c *calls) tell(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.o.OnError == nil || c.over:
	case c.telling != nil:
		c.next = err
	default:
		c.telling = make(chan struct{})
		c.tellLocked(err)
	}
}

// tellLocked begins a call of OnError, and when that has returned another one, if there is another error by then. The
// caller holds c.mu.
func (c *calls) tellLocked(err error) {
	usercode.Detached(func() error { return c.o.OnError(err) }, func(failed error) {
		if failed != nil {
			c.o.Log.Error("OnSourceError panicked", zap.Error(failed))
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if next := c.next; next != nil {
			c.next = nil
			c.tellLocked(next)
			return
		}
		close(c.telling)
		c.telling = nil
	})
}

// end lets no call begin any more, and waits for the calls in progress, since TearDown must not take away what they
// use. The context of a Fetch has ended by then. end waits for a Fetch up to FetchTimeout, for OnError up to
// usercode.Grace, and for both only until Hurry is closed. The error says which calls were left behind.
func (c *calls) end() error {
	c.mu.Lock()
	c.over, c.next = true, nil
	fetching, telling := c.fetching, c.telling
	c.mu.Unlock()
	var left []string
	if !c.await(fetching, c.o.FetchTimeout) {
		left = append(left, "Fetch")
	}
	if !c.await(telling, usercode.Grace) {
		left = append(left, "OnSourceError")
	}
	if len(left) == 0 {
		return nil
	}
	return fmt.Errorf("stop: %w: a call of %s has not returned", ErrLeftBehind, strings.Join(left, ", and one of "))
}

// await waits until a call has returned, which is so if returned is nil. It returns false if it gave up before.
func (c *calls) await(returned <-chan struct{}, most time.Duration) bool {
	if returned == nil {
		return true
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-returned:
		return true
	case <-timer.C:
	case <-c.o.Hurry:
	}
	select {
	case <-returned: // it returned at the same moment
		return true
	default:
		return false
	}
}
