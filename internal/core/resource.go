package core

import "time"

// phase is what is in progress for a resource outside of the core. There is never more than one.
type phase uint8

const (
	idle phase = iota
	claiming
	releasing
	calling
)

// resource is all that is known of one id. It exists while the catalogue has an entry, etcd has a claim, or anything
// is held or in progress here.
type resource struct {
	id string
	sh *shard

	// What etcd said last.
	present   bool   // the catalogue wants it handled
	data      []byte //
	dataGen   uint32 // rises with each change of data
	seenToken int64  // the claim's create revision; 0: no claim
	seenLease int64
	seenRev   int64  // the revision at which that was so; older news is ignored
	entryGen  uint32 // the shard's snapshot generation in which the entry was last told of
	claimGen  uint32 // the same of the claim

	// What is so here.
	phase      phase
	call       ActionKind // while calling: Handle, Update or Terminate
	queued     queueID    // where it waits for its turn
	cancelled  bool       // the context of the call in progress was ended by us
	disowned   bool       // the context of the handling was ended by us, since its claim is lost
	stuck      bool       // a call that we gave up on has not returned
	started    bool       // the handler has it, or remains of it: Terminate is due before the claim may go
	ailing     bool       // the handler reported that what it started fails
	dirty      bool       // started, but its context ended or a call broke off: Terminate before anything else
	uncertain  bool       // a claim's answer was lost: the claim may be there, or still appear until settleAt
	conclusive bool       // the claim or release in progress was sent after settleAt: its answer ends the uncertainty
	doomed     bool       // a release's answer was lost: the claim may be deleted at any time, so it cannot be used again
	busy       bool       // counted in shard.busy
	engaged    bool       // counted in Core.engaged
	tardy      bool       // counted in Core.tardy

	token      int64  // of the claim that is ours; 0: none
	lease      int64  // the lease of that claim, or of the one on its way
	oldToken   int64  // the token under which Handle was called last
	handledGen uint32 // the data that the handler was given
	index      int32  // in shard.list

	attempts    uint16        // failures of Handle in a row
	endTries    uint16        // failures of Terminate in a row
	tries       uint16        // failures of writes in a row
	handleAfter time.Duration // no Handle before
	endAfter    time.Duration // no Terminate before, while the claim lasts; of one in progress: when it began
	writeAfter  time.Duration // no claim or release before
	settleAt    time.Duration // until when a write of it whose answer was lost may still be applied
	timerAt     time.Duration // of the earliest timer that is set; 0: none

	// The claim's value in etcd.
	state       State
	unsaved     bool   // etcd has not been told of state and err
	stateQueued bool   // it is in Core.states
	doubtful    bool   // a write of it got no answer, and may yet undo a later one, until settleAt
	plain       bool   // it was not written since the claim was made: a summary can stand for it
	tallied     tally  // in group
	unseen      bool   // counted in shard.unseen
	err         string //
	since       time.Duration
	writing     int64         // the token of the claim that a write of it is on its way to; 0: none
	stateAfter  time.Duration // no write of it before
	group       *bundle       // that the claim is in; nil: there is none

	offered time.Duration // released to whoever owns it now, who has not claimed it yet: until when that counts; 0: no
}

// isEngaged says whether something of it is held or in progress here, a call that was given up aside.
func (r *resource) isEngaged() bool {
	return r.phase != idle || r.token != 0 || r.started && !r.stuck
}

// isBusy says whether the member has something of it that needs the shard to be followed on.
func (r *resource) isBusy(c *Core) bool {
	if r.phase != idle || r.token != 0 || r.started || r.stuck || r.offered != 0 || r.uncertain {
		return true
	}
	return c.seesOurs(r)
}

// forget drops the claim without a word to etcd: it is gone, or its lease is.
func (c *Core) forget(r *resource) {
	lease := r.lease
	r.token, r.lease, r.doomed = 0, 0, false
	r.tries, r.writeAfter = 0, 0
	r.attempts, r.endTries, r.handleAfter, r.endAfter = 0, 0, 0, 0
	c.leaveLease(lease)
}

// hold makes a claim ours. What etcd said of it is to be taken over too, before anything is decided.
func (c *Core) hold(r *resource, token, lease int64) {
	r.token, r.lease = token, lease
	r.state, r.err, r.unsaved, r.stateAfter, r.plain = StateClaimed, "", false, 0, true
	r.doubtful, r.tries, r.writeAfter = false, 0, 0
}

// answered notes that etcd answered a claim or a release: the next write need not wait.
func (r *resource) answered() {
	r.tries, r.writeAfter = 0, 0
	if r.conclusive {
		r.uncertain = false
	}
}

// seeClaim takes over what etcd said of the claim's key at a revision, unless something newer is known.
func (r *resource) seeClaim(token, lease, rev int64) {
	if rev >= r.seenRev {
		switch {
		case r.seenToken == 0 && token != 0:
			r.sh.claims++
		case r.seenToken != 0 && token == 0:
			r.sh.claims--
		}
		r.seenToken, r.seenLease, r.seenRev = token, lease, rev
	}
}

// gone says whether the key of the claim that is ours is known to be deleted: by a release, or by someone else.
func (r *resource) gone() bool { return r.token != 0 && r.seenToken != r.token }

// shard holds the resources of one shard, in a list besides the map so that going through them has a fixed order: the
// same events always give the same actions.
type shard struct {
	number  int
	owned   bool
	gen     uint32 // of snapshots
	byID    map[string]*resource
	list    []*resource
	bundles []*bundle // of claims that are this member's
	busy    int       // how many resources are busy
	unseen  int       // how many resources may have a claim that is not known
	claims  int       // how many claims etcd has, as far as known
	floor   int64     // the newest seenRev of those dropped: their old news must not bring them back
}

// get returns the resource of an id, made if need be.
func (sh *shard) get(id string) *resource {
	r := sh.byID[id]
	if r == nil {
		r = &resource{id: id, sh: sh, index: int32(len(sh.list)), seenRev: sh.floor}
		sh.byID[id] = r
		sh.list = append(sh.list, r)
	}
	return r
}

// drop removes a resource of which nothing is known. Queues and timers may still refer to it and find its shard nil.
func (sh *shard) drop(r *resource) {
	sh.floor = max(sh.floor, r.seenRev)
	delete(sh.byID, r.id)
	last := sh.list[len(sh.list)-1]
	sh.list[r.index], last.index = last, r.index
	sh.list[len(sh.list)-1] = nil
	sh.list = sh.list[:len(sh.list)-1]
	r.sh = nil
}

// each calls f for every resource. f may drop the one it was called for.
func (sh *shard) each(f func(*resource)) {
	for i := len(sh.list) - 1; i >= 0; i-- {
		if i < len(sh.list) {
			f(sh.list[i])
		}
	}
}
