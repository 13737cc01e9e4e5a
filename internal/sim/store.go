package sim

import (
	"slices"
	"time"

	"github.com/distributed-resource-manager/drm/internal/core"
)

// store is the part of etcd that matters here: entries, claims on leases, and a log of events for each shard.
type store struct {
	w       *world
	rev     int64
	entries []entry
	claims  []claim
	sums    [][]summed // for each shard
	leases  []lease    // for each id; there is no lease 0
	logs    []shardLog
	trails  [][]trail // for each shard
	records []record  // for each resource
	alone   lock
	byHand  []int64 // tokens of claims that somebody deleted by hand
}

type entry struct {
	exists, suspended bool
	version           int
}

func (e entry) data() []byte {
	return []byte{'v', byte('0' + e.version/10%10), byte('0' + e.version%10)}
}

type claim struct {
	token, mod, lease int64
	state             core.State
}

// summed says that the claims of a shard on a lease that say claimed are active, up to a revision.
type summed struct{ lease, through, mod int64 }

type lease struct {
	alive   bool
	owner   *member
	gen     int // the owner's process
	expires time.Duration
	poison  bool // its member's process has died of a poison resource
}

// shardLog is what happened in a shard.
type shardLog struct {
	past      []change
	compacted int // how many of the changes are forgotten
	followers []*follower
	silent    int // reasons why nobody hears of it
}

type change struct {
	rev      int64
	resource int
	isClaim  bool
	entry    entry  // where the change is about an entry; not exists: it was deleted
	claim    claim  // where it is about a claim; token 0: it was deleted
	summary  summed // where its lease is not 0, the change is about this; through 0: it was deleted
	trail    trail  // the same; mod 0: it was deleted
	isRecord bool
	record   record // where isRecord is set; token 0: it was deleted
}

func (s *store) init(w *world) {
	s.w, s.rev = w, 100
	s.entries = make([]entry, w.plan.Resources)
	s.claims = make([]claim, w.plan.Resources)
	s.sums = make([][]summed, w.plan.Shards)
	s.leases = make([]lease, 1)
	s.logs = make([]shardLog, w.plan.Shards)
	s.trails = make([][]trail, w.plan.Shards)
	s.records = make([]record, w.plan.Resources)
}

func (s *store) log(c change) {
	l := &s.logs[s.w.shardOf(c.resource)]
	c.rev = s.rev
	l.past = append(l.past, c)
	kept := l.followers[:0]
	for _, f := range l.followers {
		if f.dead || f.gen != f.m.gen {
			continue
		}
		kept = append(kept, f)
		f.poke()
	}
	l.followers = kept
}

func (s *store) putEntry(r int, e entry) {
	if !e.exists && !s.entries[r].exists {
		return
	}
	s.rev++
	s.entries[r] = e
	s.log(change{resource: r, entry: e})
}

func (s *store) claim(r int, leaseID int64) core.WriteResult {
	if !s.leases[leaseID].alive {
		return core.WriteResult{LeaseGone: true}
	}
	if c := s.claims[r]; c.token != 0 {
		return core.WriteResult{Revision: s.rev, FoundToken: c.token, FoundLease: c.lease}
	}
	s.rev++
	s.setClaim(r, claim{token: s.rev, mod: s.rev, lease: leaseID})
	return core.WriteResult{Applied: true, Revision: s.rev}
}

func (s *store) release(r int, token int64) core.WriteResult {
	c := s.claims[r]
	if c.token != token {
		return core.WriteResult{Revision: s.rev, FoundToken: c.token, FoundLease: c.lease}
	}
	if c.token != 0 {
		s.rev++
		s.setClaim(r, claim{})
	}
	return core.WriteResult{Applied: true, Revision: s.rev}
}

func (s *store) writeState(r int, token, leaseID int64, state core.State) core.WriteResult {
	if !s.leases[leaseID].alive {
		return core.WriteResult{LeaseGone: true}
	}
	c := s.claims[r]
	if c.token != token {
		return core.WriteResult{Revision: s.rev, FoundToken: c.token, FoundLease: c.lease}
	}
	s.rev++
	c.mod, c.lease, c.state = s.rev, leaseID, state
	s.setClaim(r, c)
	return core.WriteResult{Applied: true, Revision: s.rev}
}

// writeSummary puts a lease's summary of a shard, or, through 0, deletes it.
func (s *store) writeSummary(shard int, leaseID, through int64) core.WriteResult {
	if through != 0 && !s.leases[leaseID].alive {
		return core.WriteResult{LeaseGone: true}
	}
	s.rev++
	s.setSummary(shard, summed{leaseID, through, s.rev})
	return core.WriteResult{Applied: true, Revision: s.rev}
}

func (s *store) setSummary(shard int, n summed) {
	list := s.sums[shard]
	i := slices.IndexFunc(list, func(o summed) bool { return o.lease == n.lease })
	switch {
	case i < 0 && n.through == 0:
		return
	case i < 0:
		s.sums[shard] = append(list, n)
	case n.through == 0:
		s.sums[shard] = slices.Delete(list, i, i+1)
	default:
		list[i] = n
	}
	s.w.Tracef("etcd: %d: summary of shard %d is %+v", s.rev, shard, n)
	s.log(change{resource: shard, summary: n})
}

// says returns what a claim says, by itself or by its summary.
func (s *store) says(r int) core.State {
	c := s.claims[r]
	for _, n := range s.sums[s.w.shardOf(r)] {
		if c.state == core.StateClaimed && n.lease == c.lease && c.mod <= n.through {
			return core.StateActive
		}
	}
	return c.state
}

func (s *store) setClaim(r int, c claim) {
	if s.w.Trace {
		s.w.Tracef("etcd: %d: claim of %s is %+v", s.rev, s.w.ids[r], c)
	}
	s.claims[r] = c
	s.log(change{resource: r, isClaim: true, claim: c})
}

func (s *store) grant(m *member) int64 {
	id := int64(len(s.leases))
	s.leases = append(s.leases, lease{alive: true, owner: m, gen: m.gen, expires: s.w.Now + ttl})
	s.w.at(s.w.Now+ttl, nil, func() { s.expire(id) })
	return id
}

func (s *store) renew(id int64) bool {
	l := &s.leases[id]
	if l.alive {
		l.expires = s.w.Now + ttl
	}
	return l.alive
}

// promote gives each lease its whole TTL again, as a new leader does.
func (s *store) promote() {
	for id := range s.leases {
		if l := &s.leases[id]; l.alive {
			l.expires = s.w.Now + ttl
			s.w.count(Promoted)
		}
	}
}

func (s *store) expire(id int64) {
	l := &s.leases[id]
	switch {
	case !l.alive:
	case s.w.Now < l.expires:
		s.w.at(l.expires, nil, func() { s.expire(id) })
	case s.w.leaderless > 0: // nobody counts the TTL; promote makes the lease expire later
		s.w.after(100*time.Millisecond, func() { s.expire(id) })
	default:
		s.w.count(Expired)
		s.w.Tracef("etcd: lease %d expires", id)
		s.revoke(id)
	}
}

// revoke ends a lease and deletes what is on it, at one revision.
func (s *store) revoke(id int64) {
	if !s.leases[id].alive {
		return
	}
	s.leases[id].alive = false
	s.rev++
	for r := range s.claims {
		if s.claims[r].lease == id {
			s.setClaim(r, claim{})
		}
	}
	for shard := range s.sums {
		s.setSummary(shard, summed{lease: id})
	}
	if s.alone.lease == id {
		s.alone = lock{}
	}
}

func (s *store) compact() {
	for i := range s.logs {
		s.logs[i].compacted = len(s.logs[i].past)
	}
}

func (s *store) deleteByHand(r int) bool {
	c := s.claims[r]
	if c.token == 0 {
		return false
	}
	s.byHand = append(s.byHand, c.token)
	s.rev++
	s.setClaim(r, claim{})
	return true
}

func (s *store) deleteSummariesByHand(shard int) bool {
	list := slices.Clone(s.sums[shard])
	for _, n := range list {
		s.writeSummary(shard, n.lease, 0)
	}
	return len(list) > 0
}

func (s *store) revokeByHand(id int64) {
	for _, c := range s.claims {
		if c.lease == id {
			s.byHand = append(s.byHand, c.token)
		}
	}
	s.revoke(id)
}

// wasDeletedByHand reports whether somebody deleted the claim with that token by hand, so that its member could not
// know.
func (s *store) wasDeletedByHand(token int64) bool {
	for _, t := range s.byHand {
		if t == token {
			return true
		}
	}
	return false
}

// hasClaimsOf reports whether there are claims of a former life of a member.
func (s *store) hasClaimsOf(m *member) bool {
	for _, c := range s.claims {
		if c.token != 0 && s.leases[c.lease].owner == m {
			return true
		}
	}
	return false
}
