package calls

import (
	"context"
	"sync/atomic"
	"time"
)

// Claim is a resource, and this member's right to handle it. Each call of the handler gets one.
type Claim struct {
	ID    string
	Data  []byte    // the resource's JSON object
	Token int64     // the claim's fencing token
	Of    *Handling // knows whether the claim is valid, and takes the handler's reports
}

// Handling is one resource from the call of Handle until Terminate has returned. It may be kept and used from any
// goroutine for as long as the user likes.
type Handling struct {
	calls *Calls
	claim Claim // the loop owns it: an Update changes the data
	lease *Lease
	shard int
	life  int32 // the number of the life of the service that was given the resource; the loop owns it
	doubt bool  // later lives may have been given the resource, too; the loop owns it
	// checkPlace is the place in the queue of the checks that are due later; 0 if it is not there. The loop owns it.
	checkPlace int32
	call       *call // the call in progress; nil if there is none; the loop owns it

	ctx    context.Context // the context of Handle; ends with that of the lease
	cancel context.CancelCauseFunc
	place  int         // the index in lease.handlings; lease.mu guards it
	over   atomic.Bool // the claim was lost, or the handler does not have the resource any more

	failedChecks uint16 // in a row; the loop owns it

	// gone says that the handling has lapsed: its context has ended, and it waits for the Handle that replaces it. Its
	// claim stays valid until that Handle has succeeded, so that what is left of it can end in order. The loop owns
	// this, and former.
	gone   bool
	former *Handling // that lapsed, and that this one replaces; nil once nothing of it is left
}

// Remaining returns how long the claim is surely still valid; zero or less if it is not valid. When the member ends the
// handling in order and has ended its context, the claim is still valid: the handler may rely on it until it has ended.
func (h *Handling) Remaining() time.Duration {
	if h.over.Load() || h.lease.ctx.Err() != nil {
		return 0
	}
	return max(h.lease.Keeper.Remaining(), h.calls.o.AtLeast)
}

// Report takes a report of the handler: that the handling has failed, with the reason in text, or that it works again.
// It never blocks. Reports that come after Terminate was called are ignored.
func (h *Handling) Report(failed bool, text string) {
	h.calls.o.Post(func(now time.Duration) { h.calls.reported(now, h, failed, text) })
}

// Fail says that what the handler began no longer works: Terminate is called, and Handle again after a pause. It never
// blocks. After Terminate was called it is ignored.
func (h *Handling) Fail(text string) {
	h.calls.o.Post(func(now time.Duration) {
		if h.calls.handlings.of(h.shard, h.claim.ID) == h && !h.gone {
			h.calls.o.Core.Broke(now, h.shard, h.claim.ID, text)
		}
	})
}

// end ends the handling's context and makes its claim invalid, so that nothing of the handling goes on, nor of the one
// that it replaces. It runs on the loop.
func (h *Handling) end(cause error) {
	h.cancel(cause)
	h.over.Store(true)
	h.lease.leave(h)
	h.replace()
}

// lapse ends the handling's context, and leaves the rest to the Handle or Terminate that follows.
func (h *Handling) lapse() {
	h.gone = true
	h.cancel(CauseGone)
}

// replace ends the handling that this one has replaced.
func (h *Handling) replace() {
	if h.former != nil {
		h.former.end(CauseGone)
		h.former = nil
	}
}

// handlings are the handlings of a member, by shard and id. One map of all of them would fit into no cache, and would
// have to be copied whenever it grows.
type handlings map[int]map[string]*Handling

// of returns the handling of a resource; nil if there is none.
func (hs handlings) of(shard int, id string) *Handling { return hs[shard][id] }

func (hs handlings) put(h *Handling) {
	in := hs[h.shard]
	if in == nil {
		in = make(map[string]*Handling)
		hs[h.shard] = in
	}
	in[h.claim.ID] = h
}

// drop removes h, unless another handling has taken its place.
func (hs handlings) drop(h *Handling) {
	in := hs[h.shard]
	if in[h.claim.ID] != h {
		return
	}
	if delete(in, h.claim.ID); len(in) == 0 {
		delete(hs, h.shard)
	}
}
