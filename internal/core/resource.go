package core

import (
	"bytes"
	"time"
)

// phase is the one thing that is in progress outside of the core for a resource.
type phase uint8

const (
	idle phase = iota
	claiming
	releasing
	callingHandle
	callingUpdate
	callingTerminate
)

// isCall says whether a call of the handler is in progress.
func (p phase) isCall() bool { return p >= callingHandle }

// resource is all that is known of one id. It exists while the catalogue has an entry, etcd has a claim, or this member
// has a claim or anything in progress. A member may have a million of them, so each byte counts: the parts are ordered
// and grouped so that little is lost to padding (TestAResourceIsSmall).
type resource struct {
	id string
	sh *shard // nil: the resource was dropped, and only queues and timers refer to it still

	seen     seen
	claim    claim
	handling handling
	told     told
	counted  counted

	certainAt time.Duration // from then on, etcd can no longer apply a claim or state whose answer was lost
	timerAt   time.Duration // of the earliest timer that is set; 0: none
	index     int32         // in shard.list
	phase     phase
	queued    queueID // where it waits for its turn
	left      uint16  // the tick at which it became young, if counted.line says so
}

// seen is what etcd was last known to say: the catalogue's entry, and the claim's key, whoever made it.
type seen struct {
	data     []byte
	token    int64  // the claim's create revision; 0: there is no claim
	lease    int64  // the claim's lease
	rev      int64  // the revision at which the claim was like this; older news is ignored
	dataGen  uint32 // rises with each change of data; 0: the entry was never seen
	entryGen uint32 // the shard's snapshot generation in which the entry was last seen
	claimGen uint32 // the shard's snapshot generation in which the claim was last seen
	wanted   bool   // the catalogue has an entry that is not suspended
	weight   weight
}

// takeEntry takes over an entry of the catalogue, and reports whether the data changed.
func (s *seen) takeEntry(e Entry, gen uint32) (changed bool) {
	s.entryGen = gen
	if e.Unreadable {
		return false
	}
	s.wanted, s.weight = !e.Suspended, weightOf(e.Weight)
	if s.dataGen != 0 && bytes.Equal(s.data, e.Data) {
		return false
	}
	s.data = e.Data
	s.dataGen++
	return true
}

// claim is the claim that this member has of the resource, or has requested.
type claim struct {
	token      int64         // the create revision of this member's claim; 0: it has none
	lease      int64         // the lease of that claim, or of the claim on its way
	writeAfter time.Duration // no claim or release is sent before this time
	offered    time.Duration // until when the released resource is on its way to its next owner; 0: it is not
	failures   uint16        // failures of claims and releases in a row
	uncertain  bool          // the answer to a claim was lost: the claim may be there, or still appear until certainAt
	conclusive bool          // the claim or release in progress was sent after certainAt: its answer is certain
	doomed     bool          // the answer to a release was lost: the claim may go at any time, and is not used again
}

// answered notes that etcd answered a claim or a release, so that the next write need not wait.
func (c *claim) answered() {
	c.failures, c.writeAfter = 0, 0
	if c.conclusive {
		c.uncertain = false
	}
}

// handling is what the handler has of the resource, and how the call in progress, or the last one, goes.
type handling struct {
	token             int64         // the token under which Handle was called last
	handleAfter       time.Duration // Handle is not called before this time
	terminateAt       time.Duration // Terminate is not called before, while the claim lasts; in progress: when it began
	dataGen           uint32        // the seen.dataGen of the data that the handler was given
	handleFailures    uint16        // failures of Handle in a row
	terminateFailures uint16        // failures of Terminate in a row

	started   bool // the handler has the resource, or remains of it: Terminate is due before the claim may go
	dirty     bool // started, but its context ended or a call broke off: Terminate comes before anything else
	ailing    bool // the handler reported that what it started fails
	cancelled bool // the core ended the context of the call in progress
	disowned  bool // the core ended the context of the whole handling, because its claim is lost
	stuck     bool // a call that was given up has not returned
	broken    bool // what the call in progress has begun, or changes, does not work: Terminate follows the call
	lapsed    bool // what was begun before the call in progress returned is gone; if none is, see awaitsHandle
}

// begin notes that Handle is called under a claim.
func (h *handling) begin(token int64, dataGen uint32) {
	h.token, h.dataGen = token, dataGen
	h.ailing, h.disowned, h.broken, h.lapsed = false, false, false, false
}

// lapse notes that what the handler has is to be replaced by another Handle.
func (h *handling) lapse() {
	h.end()
	h.started, h.lapsed = true, true
}

// awaitsHandle says, while no call is in progress, whether Handle comes next though the handler may still have
// something: Handle replaces it. Only if Handle cannot come any more, Terminate does.
func (h *handling) awaitsHandle() bool { return h.started && h.lapsed && !h.dirty }

// end notes that the handler does not have the resource any more.
func (h *handling) end() {
	h.started, h.dirty, h.broken, h.lapsed = false, false, false, false
	h.terminateFailures, h.terminateAt = 0, 0
}

// leaveDirty notes that the handler may have something, under a context that has ended or after a call that broke off.
func (h *handling) leaveDirty() { h.started, h.dirty = true, true }

// retryHandleAtOnce forgets the failures of Handle.
func (h *handling) retryHandleAtOnce() { h.handleFailures, h.handleAfter = 0, 0 }

// told is what the claim's key must say of the handling, and whether etcd has been told so.
type told struct {
	err       string        // the reason of StateFailed
	since     time.Duration // when the state was reached; while the claim is on its way: when it was sent
	writing   int64         // the token of the claim to which a state is on its way; 0: none is
	after     time.Duration // no state is written before this time
	state     State
	unsaved   bool // etcd has not been told of state and err
	uncertain bool // the answer to a state was lost: it may be applied until certainAt, and undo a later one
	plain     bool // no state was written since the claim was made, so that a summary can stand for it
	queued    bool // it is in Core.states
}

// reset starts anew for a new claim, whose key says StateClaimed.
func (t *told) reset() {
	t.state, t.err, t.unsaved, t.after, t.plain, t.uncertain = StateClaimed, "", false, 0, true, false
}

// mustWrite notes that the key has to be written, since a summary cannot say what the key must say.
func (t *told) mustWrite() { t.unsaved, t.plain = true, false }

// sent notes that the state is on its way to the claim with that token. certain says that certainAt has passed, so that
// no earlier state can undo this one.
func (t *told) sent(token int64, certain bool) {
	t.writing, t.unsaved, t.plain = token, false, false
	t.uncertain = t.uncertain && !certain
}

// counted says which counts the resource is in, so that each change of it changes a count once.
type counted struct {
	bundle  *bundle // the bundle that its claim is in; nil: it has no claim
	tally   tally   // the count in bundle that it is in besides bundle.claims
	line    line    // whether the trail of its bundle lists it
	busy    bool    // it is in shard.busy
	unseen  bool    // it is in shard.unseen
	engaged bool    // it is in counts.engaged
	tardy   bool    // it is in counts.tardy
	room    bool    // it is in ceiling.used
}

// claimed says whether this member has a claim of the resource.
func (r *resource) claimed() bool { return r.claim.token != 0 }

// gone says whether the key of this member's claim is known to be deleted: by a release, or by someone else.
func (r *resource) gone() bool { return r.claimed() && r.seen.token != r.claim.token }

// isUpToDate says whether the handler was given the newest data.
func (r *resource) isUpToDate() bool { return r.handling.dataGen == r.seen.dataGen }

// isEngaged says whether this member has a claim of the resource, something in progress for it, or a Terminate to call.
// A call that was given up does not count.
func (r *resource) isEngaged() bool {
	return r.phase != idle || r.claimed() || r.handling.started && !r.handling.stuck
}

// isBusy says whether this member must go on following the shard because of the resource.
func (r *resource) isBusy(c *Core) bool {
	if r.phase != idle || r.claimed() || r.handling.started || r.handling.stuck || r.claim.offered != 0 ||
		r.claim.uncertain {
		return true
	}
	return c.seesOurs(r) || c.ceiling != nil && c.ceiling.takesRoom(r)
}

// seeClaim takes over what etcd said of the claim's key at a revision, unless something newer is known.
func (r *resource) seeClaim(token, lease, rev int64) {
	if rev >= r.seen.rev {
		switch {
		case r.seen.token == 0 && token != 0:
			r.sh.claims++
		case r.seen.token != 0 && token == 0:
			r.sh.claims--
		}
		if len(r.sh.accusers) > 0 && (r.seen.token != token || r.seen.lease != lease) {
			r.sh.moveClaim(r.seen.lease, lease)
		}
		r.seen.token, r.seen.lease, r.seen.rev = token, lease, rev
	}
}

// setClaim notes that this member has a claim. The caller calls seeClaim too, before anything is decided.
func (r *resource) setClaim(token, lease int64) {
	r.claim.token, r.claim.lease = token, lease
	r.claim.failures, r.claim.writeAfter = 0, 0
	r.told.reset()
}

// forgetClaim drops the claim and sends nothing to etcd: the claim's key is gone, or its lease is fenced or gone.
func (c *Core) forgetClaim(r *resource) {
	lease := r.claim.lease
	c.unlist(r, lease)
	r.claim.token, r.claim.lease, r.claim.doomed = 0, 0, false
	r.claim.failures, r.claim.writeAfter = 0, 0
	r.handling.retryHandleAtOnce()
	r.handling.terminateFailures, r.handling.terminateAt = 0, 0
	delete(c.relapses, r)
	delete(c.crowd.of, r)
	c.budgets.forget(r, c.now)
	c.endNote(r)
	c.leaveLease(lease)
}
