package scenario_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// call is one call of a handler.
type call struct {
	Action, Member, Resource string
	Token                    int64
	Data                     string
}

// recorder is a Handler that notes its calls. Several members may share one: it checks that no two of them handle a
// resource at once. The functions, where set, run inside the calls.
type recorder struct {
	tb          testing.TB
	onHandle    func(ctx context.Context, c drm.Claim) error
	onTerminate func(ctx context.Context, c drm.Claim) error
	// handsOverFailed says that members have to let go of what fails: if one hears of that right after Handle has
	// returned, before it has looked at the error, Terminate follows.
	handsOverFailed bool

	mu     sync.Mutex
	calls  []call
	holder map[string]string // for each resource: the member that has it, from Handle to the end of Terminate
	tokens map[string]int64
	// handling has the context of the last Handle of each resource. If that has ended because the service was
	// restarted, no Terminate follows.
	handling map[string]context.Context
	// failed has the member whose Handle was the last to fail, for each resource that nobody has since.
	failed  map[string]string
	changed chan struct{}
}

func newRecorder(tb testing.TB) *recorder {
	return &recorder{
		tb: tb, holder: map[string]string{}, tokens: map[string]int64{}, handling: map[string]context.Context{},
		failed: map[string]string{}, changed: make(chan struct{}),
	}
}

func (r *recorder) note(action string, c drm.Claim) {
	r.calls = append(r.calls, call{action, c.Member, c.Resource.ID, c.Token, string(c.Resource.Data)})
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) Handle(ctx context.Context, c drm.Claim) error {
	r.mu.Lock()
	id := c.Resource.ID
	if other, held := r.holder[id]; held && !errors.Is(context.Cause(r.handling[id]), drm.CauseServiceRestarted) {
		r.tb.Errorf("%s is handled by %s while %s has it", id, c.Member, other)
	}
	if c.Token < r.tokens[id] {
		r.tb.Errorf("the token of %s fell from %d to %d", id, r.tokens[id], c.Token)
	}
	if !c.Valid() && ctx.Err() == nil {
		r.tb.Errorf("Handle of %s under a claim that is not valid", id)
	}
	r.holder[id], r.tokens[id], r.handling[id] = c.Member, c.Token, ctx
	delete(r.failed, id)
	r.note("handle", c)
	r.mu.Unlock()
	var err error
	if r.onHandle != nil {
		err = r.onHandle(ctx, c)
	}
	if err != nil && ctx.Err() == nil { // otherwise Terminate follows, whatever Handle returned
		r.mu.Lock()
		delete(r.holder, id)
		r.failed[id] = c.Member
		r.mu.Unlock()
	}
	return err
}

// wasCut says whether the last Handle of a resource failed at a member just before its context ended. Handle itself
// cannot tell whether the manager sees the error or the end first; in the second case Terminate follows.
func (r *recorder) wasCut(id, member string) bool {
	if r.failed[id] != member {
		return false
	}
	why := context.Cause(r.handling[id])
	return why != nil && !errors.Is(why, context.Canceled) &&
		(r.handsOverFailed || !errors.Is(why, drm.CauseTerminated))
}

func (r *recorder) HandleFailed(_ context.Context, c drm.Claim, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note("handle_failed", c)
}

func (r *recorder) Terminate(ctx context.Context, c drm.Claim) error {
	r.mu.Lock()
	if holder := r.holder[c.Resource.ID]; holder != c.Member && !r.wasCut(c.Resource.ID, c.Member) {
		r.tb.Errorf("%s terminates %s, which %q has", c.Member, c.Resource.ID, holder)
	}
	r.note("terminate", c)
	r.mu.Unlock()
	var err error
	if r.onTerminate != nil {
		err = r.onTerminate(ctx, c)
	}
	if err != nil && errors.Is(context.Cause(ctx), drm.CauseFenced) {
		return err // another Terminate follows
	}
	r.mu.Lock()
	delete(r.holder, c.Resource.ID)
	r.mu.Unlock()
	return err
}

func (r *recorder) TerminateFailed(_ context.Context, c drm.Claim, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note("terminate_failed", c)
}

// hasItsTime is for onTerminate in tests where a lease ends before what is on it has ended. The Terminate that follows
// has to clean up, so its context must not have ended already.
func (r *recorder) hasItsTime(ctx context.Context, c drm.Claim) error {
	select {
	case <-ctx.Done():
		r.tb.Errorf("the Terminate of %s is to end at once: %v", c.Resource.ID, context.Cause(ctx))
		return ctx.Err()
	case <-time.After(20 * time.Millisecond):
		return nil
	}
}

// all returns the calls so far.
func (r *recorder) all() []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

// holders returns who handles what now.
func (r *recorder) holders() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := make(map[string]string, len(r.holder))
	for id, m := range r.holder {
		held[id] = m
	}
	return held
}

// count counts the calls of an action for a resource, or for all resources where resource is empty.
func (r *recorder) count(action, resource string) int {
	n := 0
	for _, c := range r.all() {
		if c.Action == action && (resource == "" || c.Resource == resource) {
			n++
		}
	}
	return n
}

// until waits until ok returns true. It calls ok after each call of the recorder, and also now and then.
func (r *recorder) until(what string, ok func() bool) {
	r.tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		if ok() {
			return
		}
		again := time.NewTimer(50 * time.Millisecond)
		select {
		case <-changed:
		case <-again.C:
		case <-deadline.C:
			calls := r.all()
			r.tb.Fatalf("not in time: %s; last calls: %v; held: %v", what, calls[max(0, len(calls)-10):], r.holders())
		}
		again.Stop()
	}
}
