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

// sourceError marks a failure that the source is to blame for; everything else that makes a fetch fail is etcd's. It
// does not unwrap to the user's own error: to look through that would be to call its methods, in a goroutine that must
// not wait for them.
type sourceError struct {
	Failure
	hangs bool // a Fetch has not returned, though its context has ended
}

func (e *sourceError) Error() string { return e.Err.Error() }

// blame makes an error of the source's that gives no advice.
func blame(err error) *sourceError { return &sourceError{Failure: Failure{Err: err}} }

// answer is what came of a call of Fetch.
type answer struct {
	Answer
	everything bool  // the source was asked for everything, so that Unchanged is no answer
	failed     error // a *sourceError; nil where the fetch succeeded
}

// calls are those of the user's code that a coordinator makes. They outlive a term: a call that does not return is left
// behind by its term, and none of its kind begins before it has returned.
type calls struct {
	o *Options

	mu       sync.Mutex
	over     bool          // none begins any more
	fetching chan struct{} // closed when Fetch has returned; nil while it does not run
	began    time.Duration // when the last Fetch did
	untaken  bool          // a Fetch has returned resources since the last answer that became the catalogue
	telling  chan struct{} // closed when OnError has returned; nil while it does not run
	next     error         // what OnError is to be told then
}

// hangs says whether a Fetch has not returned, and since when it runs.
func (c *calls) hangs() (since time.Duration, yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.began, c.fetching != nil
}

// free returns an error where no Fetch may begin.
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

// begin lets a Fetch begin, if it may. untaken says that what Fetch returned before was never made the catalogue: it
// came too late, or was refused, and yet the Retriever takes it for delivered.
func (c *calls) begin() (untaken bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.freeLocked(); err != nil {
		return false, err
	}
	c.fetching, c.began = make(chan struct{}), c.o.Now()
	return c.untaken, nil
}

// taken notes that what Fetch returned has become the catalogue.
func (c *calls) taken() {
	c.mu.Lock()
	c.untaken = false
	c.mu.Unlock()
}

// returned notes the end of a Fetch. delivered says that it returned resources.
func (c *calls) returned(delivered bool) {
	c.mu.Lock()
	c.untaken = c.untaken || delivered
	close(c.fetching)
	c.fetching = nil
	c.mu.Unlock()
	c.o.FetchReturned()
}

// ask calls Fetch, with its timeout, and does not wait for one that ignores its context; what that returns in the end
// is thrown away. Where everything is wanted, or the last resources that Fetch returned were not taken, a Retriever
// that leaves out what it returned before is told so first, in the same goroutine and time.
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
		c.returned(a.failed == nil && !a.Unchanged) // first: whoever has the answer may ask again at once
		answers <- a
	})
	select {
	case a := <-answers:
		if ctx.Err() != nil && (a.Unchanged || a.failed != nil) { // that its time was up says more
			a = answer{failed: blame(fmt.Errorf("fetch: %w", context.Cause(ctx)))}
		}
		return a
	case <-ctx.Done():
		e := blame(fmt.Errorf("fetch: %w", context.Cause(ctx)))
		e.hangs = true
		return answer{failed: e}
	}
}

// fetch calls Fetch, after Forget where everything is wanted.
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

// tell calls OnError in a goroutine of its own, and waits for nothing. While a call is in progress, the latest error
// that comes meanwhile is kept for the next one.
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

// tellLocked begins a call of OnError, and another one when it has returned, if there is more to tell by then. c.mu is
// held.
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

// end lets no call begin any more, and waits for those in progress, from which TearDown must not take anything away.
// The context of a Fetch has ended: one that ignores that is waited for no longer than a Fetch may take, and OnError no
// longer than usercode.Grace, both only until Hurry is closed. The error says what was left behind.
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

// await waits for the end of a call; nil stands for one that has ended. False says that it was waited for no longer.
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
	case <-returned: // as well
		return true
	default:
		return false
	}
}
