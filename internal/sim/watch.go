package sim

import (
	"time"

	"github.com/distributed-resource-manager/drm/internal/core"
)

// follower is a member's watch of a shard: a list, then the events after it, in order.
type follower struct {
	m         *member
	gen       int
	shard     int
	pos       int // how much of the shard's log has been delivered
	dead      bool
	listed    bool
	scheduled bool
	listing   int // the number of the present list
	missing   int // how many of the next events get lost
	resyncAt  time.Duration
}

func (m *member) follow(shard int) {
	if m.followers[shard] != nil {
		m.w.Failf("%s: watches shard %d twice", m.name, shard)
		return
	}
	f := &follower{m: m, gen: m.gen, shard: shard}
	m.followers[shard] = f
	l := &m.w.store.logs[shard]
	l.followers = append(l.followers, f)
	f.list()
}

// list reads the shard and goes on from there.
func (f *follower) list() {
	m := f.m
	f.listed = false
	f.listing++
	this := f.listing
	f.resyncAt = m.w.Now + resync - m.w.UpTo(resync/5)
	m.after(f.resyncAt-m.w.Now, func() {
		if !f.dead && f.listing == this {
			m.w.count(Resynced)
			f.list()
		}
	})
	var got snapshot
	m.w.count(Lists)
	m.request(listing, func() { got = m.w.store.list(f.shard, m) }, func(lost, failed bool) {
		switch {
		case f.dead || f.listing != this:
		case lost || failed:
			m.after(50*time.Millisecond, func() {
				if !f.dead && f.listing == this {
					f.list()
				}
			})
		default:
			m.post(func() {
				if !f.dead && f.listing == this {
					f.take(got)
				}
			})
		}
	})
}

// snapshot is what a list of a shard says.
type snapshot struct {
	rev     int64
	pos     int // where in the shard's log the events go on
	entries []core.Entry
	claims  []core.ClaimKey
	sums    []core.SummaryKey
	trails  []core.TrailKey
	records []core.QuarantineKey
	news    []claimNews
}

// list reads a shard for a member.
func (s *store) list(shard int, m *member) snapshot {
	got := snapshot{rev: s.rev, pos: len(s.logs[shard].past)}
	for _, n := range s.sums[shard] {
		got.sums = append(got.sums, n.key())
	}
	for _, t := range s.trails[shard] {
		got.trails = append(got.trails, t.key(m))
	}
	for r := range s.entries {
		if m.w.shardOf(r) != shard {
			continue
		}
		if e := s.entries[r]; e.exists {
			got.entries = append(got.entries, core.Entry{ID: m.w.ids[r], Suspended: e.suspended, Data: e.data()})
		}
		if q := s.records[r]; q.token != 0 {
			got.records = append(got.records, q.key(m.w.ids[r]))
		}
		got.news = append(got.news, claimNews{r, s.rev, s.claims[r].token})
		if c := s.claims[r]; c.token != 0 {
			got.claims = append(got.claims, c.key(m.w.ids[r]))
		}
	}
	return got
}

// take tells the core the result of a list.
func (f *follower) take(got snapshot) {
	m := f.m
	f.pos, f.listed, f.missing = got.pos, true, 0
	m.w.Tracef("%s: lists shard %d at %d", m.name, f.shard, got.rev)
	m.core.ListTraces(m.clock(), f.shard, got.rev, got.trails, got.records)
	m.core.Snapshot(m.clock(), f.shard, got.rev, got.entries, got.claims, got.sums)
	m.news = append(m.news, got.news...)
	m.step()
	m.checkNews()
	f.poke()
}

// poke makes the follower deliver what there is, some time later.
func (f *follower) poke() {
	if f.listed && !f.scheduled && !f.dead {
		f.scheduled = true
		f.m.after(f.m.w.delay(), f.pump)
	}
}

// pump delivers some of the events that wait.
func (f *follower) pump() {
	m := f.m
	l := &m.w.store.logs[f.shard]
	f.scheduled = false
	switch {
	case f.dead || !f.listed || f.pos == len(l.past):
		return
	case m.cut || m.deaf > 0 || m.stalls > 0 || l.silent > 0 || m.w.leaderless > 0:
		f.scheduled = true
		m.after(50*time.Millisecond, f.pump)
		return
	case f.pos < l.compacted:
		m.w.count(Compacted)
		f.list()
		return
	}
	f.scheduled = true
	m.post(f.takeEvents)
}

// takeEvents tells the core some of the events that wait.
func (f *follower) takeEvents() {
	m := f.m
	l := &m.w.store.logs[f.shard]
	f.scheduled = false
	if f.dead || !f.listed || f.pos == len(l.past) || f.pos < l.compacted {
		f.poke()
		return
	}
	n := len(l.past) - f.pos
	if !m.w.Calm {
		n = 1 + m.w.Rand.IntN(n)
		for f.pos+n < len(l.past) && l.past[f.pos+n].rev == l.past[f.pos+n-1].rev { // etcd keeps a revision together
			n++
		}
	}
	for _, c := range l.past[f.pos : f.pos+n] {
		if f.missing > 0 && !m.w.Calm {
			f.miss(c)
		} else {
			f.tell(c)
		}
	}
	f.pos += n
	m.step()
	m.checkNews()
	f.poke()
}

// miss loses an event, as etcd has lost some around compactions: nobody is told, and the watch goes on. The fault lasts
// until the shard is listed again.
func (f *follower) miss(c change) {
	w := f.m.w
	w.count(Missed)
	w.Tracef("%s: misses revision %d of shard %d", f.m.name, c.rev, f.shard)
	f.missing--
	w.calmAt = max(w.calmAt, f.resyncAt)
}

func (f *follower) tell(c change) {
	m, id := f.m, f.m.w.ids[c.resource]
	if c.rev < m.heard {
		m.w.count(Reordered)
	}
	m.heard = max(m.heard, c.rev)
	if c.isClaim {
		m.news = append(m.news, claimNews{c.resource, c.rev, c.claim.token})
	}
	switch {
	case c.trail.lease != 0 && c.trail.mod == 0:
		m.core.TrailDeleted(m.clock(), f.shard, c.trail.lease, c.rev)
	case c.trail.lease != 0:
		m.core.TrailPut(m.clock(), f.shard, c.trail.key(m))
	case c.isRecord && c.record.token == 0:
		m.core.QuarantineDeleted(m.clock(), f.shard, id, c.rev)
	case c.isRecord:
		m.core.QuarantinePut(m.clock(), f.shard, c.record.key(id))
	case c.summary.lease != 0 && c.summary.through == 0:
		m.core.SummaryDeleted(m.clock(), f.shard, c.summary.lease, c.rev)
	case c.summary.lease != 0:
		m.core.SummaryPut(m.clock(), f.shard, c.summary.key())
	case c.isClaim && c.claim.token == 0:
		m.core.ClaimDeleted(m.clock(), f.shard, id, c.rev)
	case c.isClaim:
		m.core.ClaimPut(m.clock(), f.shard, c.claim.key(id))
	case !c.entry.exists:
		m.core.EntryDeleted(m.clock(), f.shard, id)
	default:
		m.core.EntryPut(m.clock(), f.shard, core.Entry{ID: id, Suspended: c.entry.suspended, Data: c.entry.data()})
	}
}

// key is what the core is told of a summary's key.
func (n summed) key() core.SummaryKey {
	return core.SummaryKey{Lease: n.lease, Through: n.through, ModRevision: n.mod}
}

// key is what the core is told of a claim's key.
func (c claim) key(id string) core.ClaimKey {
	return core.ClaimKey{ID: id, Token: c.token, ModRevision: c.mod, Lease: c.lease}
}

// breakWatches cancels the member's watches, which then list again.
func (m *member) breakWatches() {
	for _, f := range m.followers {
		if f != nil && f.listed {
			m.w.count(Relists)
			f.list()
		}
	}
}
