package calls

import (
	"context"
	"sync/atomic"
	"time"
)

// Claim is what a call of the handler is about: a resource, and this member's right to handle it.
type Claim struct {
	ID    string
	Data  []byte // the resource's JSON object
	Token int64
	Of    *Handling // tells whether the claim is valid, and takes reports about the handling
}

// Handling is one resource from the call of Handle until Terminate has returned. It may be kept and used from any
// goroutine for as long as the user likes.
type Handling struct {
	calls *Calls
	claim Claim // the loop owns it: an Update changes the data
	lease *Lease
	shard int
	call  *call // the one in progress; nil where none is; the loop owns it

	ctx    context.Context // what Handle was given; ends with the lease's
	cancel context.CancelCauseFunc
	place  int         // among the lease's handlings; the lease locks it
	over   atomic.Bool // the claim was lost, or the handler does not have the resource any more
}

// Remaining is how long the claim is surely valid; zero or less where it is not valid. That the member wants the
// handling to end, and has ended its context, does not end the claim: what is being ended in order may still count on
// it.
func (h *Handling) Remaining() time.Duration {
	if h.over.Load() || h.lease.ctx.Err() != nil {
		return 0
	}
	return max(h.lease.Keeper.Remaining(), h.calls.o.AtLeast)
}

// Report takes what the handler tells of how the handling goes: that it has failed, and why, or that it goes on again.
// It never blocks. What is reported after Terminate was called is ignored.
func (h *Handling) Report(failed bool, text string) {
	h.calls.o.Post(func(now time.Duration) { h.calls.reported(now, h, failed, text) })
}

// end is for when nothing of the handling may go on: its context ends, and its claim is not valid any more.
func (h *Handling) end(cause error) {
	h.cancel(cause)
	h.over.Store(true)
	h.lease.leave(h)
}

// handlings are those of a member, by shard and id: one map of all of them would be in no cache, and copied whenever it
// grows.
type handlings map[int]map[string]*Handling

// of returns the handling of a resource; nil where it is not handled.
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
