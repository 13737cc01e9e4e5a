package core

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"time"
)

// Death is a death that a resource is accused of: the end of a member, or at least of its lease.
type Death struct {
	Member string
	Life   string        // tells the lives of members with one id apart; one life may have ended with several leases
	At     time.Duration // when the member wrote the trail last
	Lease  int64         // the lease of the claims that the trail was about
}

// Quarantine is a record of quarantine that is to be written.
type Quarantine struct {
	Digest string // of the resource's data
	Deaths []Death
}

// QuarantineKey is the key of a record of quarantine, as an event tells it.
type QuarantineKey struct {
	ID     string
	Token  int64  // create revision
	Digest string // of the data that the resource had
	Text   string // the evidence, for people
}

// Digest returns what stands for a resource's data in a record of quarantine.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}

// quarantine is a record of quarantine. While there is one, its resource is not handled: its owner has the claim, which
// says so.
type quarantine struct {
	token   int64 // create revision; 0: it is on its way to etcd
	digest  string
	text    string
	deaths  []Death       // what the record tells of, if this member has written it
	writing bool          // a write of it, or its deletion, is on its way
	after   time.Duration // it is not deleted before this time
}

// isGuilty says whether a resource is accused of so many deaths that it must not be handled. From aloneFrom on, it must
// have been alone in one of them: otherwise it may have begun beside the culprit each time, in a crowd.
func (c *Core) isGuilty(r *resource) bool {
	if !c.keepsTrails() || len(r.sh.accusers) == 0 || c.suspicion(r) < c.cfg.QuarantineAfter {
		return false
	}
	alone := func(a *accuser) bool { return a.alone && a.accuses(r.id) && !c.isOld(a) }
	return c.cfg.QuarantineAfter <= aloneFrom || slices.ContainsFunc(r.sh.accusers, alone)
}

// isQuarantined says whether there is a record of r, or one is on its way.
func (c *Core) isQuarantined(r *resource) bool { return r.sh.quarantines[r.id] != nil }

// tellsQuarantine says whether the claim's key has to begin, or to cease, to say that r is quarantined.
func (c *Core) tellsQuarantine(r *resource) bool {
	q := r.sh.quarantines[r.id]
	if q == nil || q.token == 0 {
		return r.told.state == StateQuarantined
	}
	return r.told.state != StateQuarantined || r.told.err != q.text
}

// tellQuarantine sets what the claim's key says.
func (c *Core) tellQuarantine(r *resource) {
	c.endNote(r)
	if q := r.sh.quarantines[r.id]; q != nil && q.token != 0 {
		c.setState(r, StateQuarantined, q.text)
		return
	}
	r.handling.retryHandleAtOnce()
	c.setState(r, StateClaimed, "")
}

// quarantine writes the record of a guilty resource.
func (c *Core) quarantine(r *resource) {
	q := &quarantine{digest: Digest(r.seen.data), deaths: c.deaths(r), writing: true}
	r.sh.setQuarantine(r.id, q)
	c.emit(Action{
		Kind: WriteQuarantine, Shard: r.sh.number, ID: r.id, Lease: r.claim.lease, Token: r.claim.token,
		Quarantine: &Quarantine{Digest: q.digest, Deaths: q.deaths},
	})
}

func (sh *shard) setQuarantine(id string, q *quarantine) {
	if sh.quarantines == nil {
		sh.quarantines = map[string]*quarantine{}
	}
	sh.quarantines[id] = q
}

// QuarantineDone says what became of a WriteQuarantine, or, if text is empty, of a DeleteQuarantine. text is the
// evidence that the record has.
func (c *Core) QuarantineDone(now time.Duration, number int, id, text string, res WriteResult) {
	sh := c.at(now, number)
	if sh == nil || sh.quarantines[id] == nil || !sh.quarantines[id].writing {
		return
	}
	q := sh.quarantines[id]
	q.writing = false
	r := sh.byID[id]
	switch {
	case text == "" && res.errored():
		q.after = now + c.backoff(1, c.cfg.RetryMin, c.cfg.RetryMax)
		c.timers.addShard(sh, q.after)
		return
	case text == "" && !res.Applied && res.FoundToken != 0: // there is another one by now
		q.token = res.FoundToken
	case text == "":
		delete(sh.quarantines, id)
	case res.Applied:
		q.token, q.text = res.Revision, text
		c.explain(q.deaths)
		q.deaths = nil
	case q.token != 0: // the answer was lost, and the watch was faster
		c.explain(q.deaths)
		q.deaths = nil
	default: // another record may be there, which the watch will show
		delete(sh.quarantines, id)
		if r != nil {
			r.handling.handleAfter = now + c.backoff(1, c.cfg.Young/askPause, c.cfg.Young/askPause)
		}
	}
	c.judgeLater(sh)
	if r != nil {
		c.reconcile(r)
	}
}

// explain ends all accusations of some deaths: the resource that is quarantined now explains them.
func (c *Core) explain(deaths []Death) {
	for _, d := range deaths {
		for _, sh := range c.shards {
			if sh == nil {
				continue
			}
			if a := sh.accuserOf(d.Lease); a != nil {
				a.clearAll()
				c.judgeLater(sh)
			}
		}
		c.emit(Action{Kind: Exonerate, Lease: d.Lease})
	}
}

// clearQuarantined clears the quarantined resources: when they are freed, they begin without any accusation. A trail
// that is newer than the record shows that somebody has freed the resource, and this member has not heard of that yet.
func (sh *shard) clearQuarantined(a *accuser) {
	for id, q := range sh.quarantines {
		if q.token > a.mod {
			a.clear(id)
		}
	}
}

// listQuarantines replaces what is known of a shard's records.
func (c *Core) listQuarantines(sh *shard, records []QuarantineKey) {
	there := make(map[string]bool, len(records))
	for _, k := range records {
		there[k.ID] = true
		c.takeQuarantine(sh, k)
	}
	maps.DeleteFunc(sh.quarantines, func(id string, q *quarantine) bool { return !there[id] && q.token != 0 })
}

// QuarantinePut says that a record's key was put, and how it is from now on.
func (c *Core) QuarantinePut(now time.Duration, number int, k QuarantineKey) {
	sh := c.at(now, number)
	if sh == nil || !c.keepsTrails() {
		return
	}
	r := sh.byID[k.ID]
	var explained []Death
	if r != nil && sh.owns(k.ID) && sh.quarantines[k.ID] == nil && c.isGuilty(r) { // the answer to its write was lost
		explained = c.deaths(r)
	}
	c.takeQuarantine(sh, k)
	c.explain(explained)
	c.judgeLater(sh)
	if r != nil {
		c.reconcile(r)
	}
}

func (c *Core) takeQuarantine(sh *shard, k QuarantineKey) {
	q := sh.quarantines[k.ID]
	if q == nil {
		q = &quarantine{}
		sh.setQuarantine(k.ID, q)
	}
	q.token, q.digest, q.text = k.Token, k.Digest, k.Text
}

// QuarantineDeleted says that a record's key was deleted at a revision: somebody has freed the resource.
func (c *Core) QuarantineDeleted(now time.Duration, number int, id string, revision int64) {
	sh := c.at(now, number)
	if sh == nil || sh.quarantines[id] == nil || sh.quarantines[id].token == 0 || sh.quarantines[id].token > revision {
		return
	}
	for _, a := range sh.accusers {
		if a.mod < revision {
			a.clear(id)
		}
	}
	delete(sh.quarantines, id)
	c.judgeLater(sh)
	if r := sh.byID[id]; r != nil {
		c.reconcile(r)
	}
}

// sweepQuarantines deletes the records of resources that have left the catalogue, or have other data now, or that this
// member has handled for a while: it had begun before it heard of the record.
func (c *Core) sweepQuarantines(sh *shard) {
	for _, id := range slices.Sorted(maps.Keys(sh.quarantines)) {
		q, r := sh.quarantines[id], sh.byID[id]
		if q.token == 0 || q.writing || c.now < q.after || !sh.owns(id) { // its owner knows better
			continue
		}
		if r == nil || !r.seen.wanted || Digest(r.seen.data) != q.digest ||
			r.counted.line == unlisted && c.isHandled(r) {
			q.writing = true
			c.emit(Action{Kind: DeleteQuarantine, Shard: sh.number, ID: id, Token: q.token})
		}
	}
}
