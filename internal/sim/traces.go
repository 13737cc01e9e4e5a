package sim

import (
	"slices"
	"strconv"
	"time"

	"github.com/distributed-resource-manager/drm/internal/core"
)

// trail is the key of a trail.
type trail struct {
	lease, mod int64
	member     string
	life       int
	at         time.Duration // in the time of the world
	ids        []string
	returned   int
	alone      bool
}

// record is the key of a record of quarantine.
type record struct {
	token  int64
	digest string
}

// lock is the key of the member that handles a suspect alone.
type lock struct {
	token, lease int64
	m            *member
	gen          int
}

// process is one life of a member.
type process struct {
	member string
	life   int
}

// anyRevision is what writeTrail expects where it does not matter what is there.
const anyRevision = -1

// trailOf returns the trail of a lease in a shard; its mod is 0 if there is none.
func (s *store) trailOf(shard int, leaseID int64) trail {
	for _, t := range s.trails[shard] {
		if t.lease == leaseID {
			return t
		}
	}
	return trail{lease: leaseID}
}

// writeTrail puts a trail, or, without ids, deletes it, if its mod revision is as expected.
func (s *store) writeTrail(shard int, expect int64, t trail) core.WriteResult {
	was := s.trailOf(shard, t.lease)
	if expect != anyRevision && was.mod != expect {
		return core.WriteResult{Revision: s.rev, FoundMod: was.mod, FoundToken: was.mod}
	}
	s.trails[shard] = slices.DeleteFunc(s.trails[shard], func(o trail) bool { return o.lease == t.lease })
	if len(t.ids) == 0 && was.mod == 0 {
		return core.WriteResult{Applied: true, Revision: s.rev}
	}
	s.rev++
	if len(t.ids) > 0 {
		t.mod = s.rev
		s.trails[shard] = append(s.trails[shard], t)
	}
	if s.w.Trace {
		s.w.Tracef("etcd: %d: trail of shard %d is %+v", s.rev, shard, t)
	}
	s.log(change{resource: shard, trail: t})
	return core.WriteResult{Applied: true, Revision: s.rev}
}

// edit carries out what a core wants of a trail. Another member's trail is left alone while its lease is alive.
func (s *store) edit(a core.Action, t trail) core.WriteResult {
	if a.Trail != nil && a.Trail.Member != "" && s.leases[a.Lease].alive {
		return core.WriteResult{Failed: true}
	}
	return s.writeTrail(a.Shard, a.Token, t)
}

// setRecord puts a record of quarantine, or, without a digest, deletes it, if its create revision is as expected.
func (s *store) setRecord(r int, expect int64, digest string) core.WriteResult {
	was := s.records[r]
	if was.token != expect {
		return core.WriteResult{Revision: s.rev, FoundToken: was.token}
	}
	if digest == "" && was.token == 0 {
		return core.WriteResult{Applied: true, Revision: s.rev}
	}
	s.rev++
	s.records[r] = record{}
	if digest != "" {
		s.records[r] = record{token: s.rev, digest: digest}
	}
	s.w.Tracef("etcd: %d: record of %s is %+v", s.rev, s.w.ids[r], s.records[r])
	s.log(change{resource: r, isRecord: true, record: s.records[r]})
	return core.WriteResult{Applied: true, Revision: s.rev}
}

// free deletes a record of quarantine, as an operator does.
func (s *store) free(r int) bool {
	token := s.records[r].token
	return token != 0 && s.setRecord(r, token, "").Applied
}

// takeAlone puts the key of the member that handles a suspect alone.
func (s *store) takeAlone(m *member, gen int, leaseID int64) core.WriteResult {
	switch {
	case !s.leases[leaseID].alive:
		return core.WriteResult{LeaseGone: true}
	case s.alone.token != 0:
		return core.WriteResult{Revision: s.rev, FoundToken: s.alone.token, FoundLease: s.alone.lease}
	}
	s.rev++
	s.alone = lock{s.rev, leaseID, m, gen}
	s.w.Tracef("etcd: %d: %s may handle one alone", s.rev, m.name)
	return core.WriteResult{Applied: true, Revision: s.rev}
}

func (s *store) freeAlone(token int64) core.WriteResult {
	if s.alone.token != token {
		return core.WriteResult{Revision: s.rev, FoundToken: s.alone.token, FoundLease: s.alone.lease}
	}
	s.rev++
	s.alone = lock{}
	return core.WriteResult{Applied: true, Revision: s.rev}
}

// key is what a member's core is told of a trail.
func (t trail) key(m *member) core.TrailKey {
	return core.TrailKey{Lease: t.lease, ModRevision: t.mod, Read: func() core.Trail {
		return core.Trail{
			Member: t.member, Life: strconv.Itoa(t.life), At: m.clockAt(t.at), IDs: t.ids, Returned: t.returned,
			Alone: t.alone,
		}
	}}
}

// key is what the core is told of a record.
func (q record) key(id string) core.QuarantineKey {
	return core.QuarantineKey{ID: id, Token: q.token, Digest: q.digest, Text: "quarantined"}
}

// executeTrace sends a write of a trail, or of what follows from trails, to etcd.
func (m *member) executeTrace(a core.Action) {
	s, gen := &m.w.store, m.gen
	switch a.Kind {
	case core.WriteTrail:
		t := trail{
			lease: a.Lease, member: m.name, life: gen, at: m.w.Now, ids: a.Trail.IDs,
			returned: a.Trail.Returned, alone: a.Trail.Alone,
		}
		if a.Trail.Member != "" {
			m.w.count(Edited)
			was := s.trailOf(a.Shard, a.Lease)
			t.member, t.life, t.at = a.Trail.Member, was.life, was.at
		}
		m.write(tracing, func() core.WriteResult { return s.edit(a, t) }, m.trailDone(a))
	case core.DeleteTrail:
		apply := func() core.WriteResult { return s.edit(a, trail{lease: a.Lease}) }
		m.write(tracing, apply, m.trailDone(a))
	case core.Exonerate:
		for shard := range s.trails {
			if !s.leases[a.Lease].alive {
				m.request(tracing, func() { s.writeTrail(shard, anyRevision, trail{lease: a.Lease}) },
					func(bool, bool) {})
			}
		}
	case core.TakeAlone:
		apply := func() core.WriteResult { return s.takeAlone(m, gen, a.Lease) }
		m.write(tracing, apply, func(res core.WriteResult) {
			m.noteGone(a, res)
			m.core.AloneDone(m.clock(), true, res)
		})
	case core.FreeAlone:
		m.write(tracing, func() core.WriteResult { return s.freeAlone(a.Token) }, func(res core.WriteResult) {
			m.core.AloneDone(m.clock(), false, res)
		})
	case core.WriteQuarantine:
		r := resourceOf(a)
		apply := func() core.WriteResult {
			if slices.ContainsFunc(a.Quarantine.Deaths, func(d core.Death) bool { return s.leases[d.Lease].alive }) {
				return core.WriteResult{Failed: true}
			}
			res := s.setRecord(r, 0, a.Quarantine.Digest)
			if res.Applied {
				m.w.checkVerdict(r, a.Quarantine.Deaths)
			}
			return res
		}
		m.write(tracing, apply, func(res core.WriteResult) {
			m.core.QuarantineDone(m.clock(), a.Shard, a.ID, "quarantined", res)
		})
	default:
		r := resourceOf(a)
		m.write(tracing, func() core.WriteResult { return s.setRecord(r, a.Token, "") }, func(res core.WriteResult) {
			m.core.QuarantineDone(m.clock(), a.Shard, a.ID, "", res)
		})
	}
}

func (m *member) trailDone(a core.Action) func(core.WriteResult) {
	return func(res core.WriteResult) { m.core.TrailDone(m.clock(), a.Shard, a.Lease, res) }
}

// isPoison says whether handling a resource kills its member.
func (w *world) isPoison(r int) bool { return r < w.plan.Poison }

// poison makes a call of Handle kill its process some time later, if the process has the resource still.
func (c *call) poison() {
	m, r, h := c.m, c.r, c.h
	m.after(m.w.UpTo(youth/2), func() {
		if m.handlingOf(r) != h || h.ctxEnded && m.calls[r] == nil && !h.must {
			return
		}
		w := m.w
		w.count(Poisoned)
		w.deaths++
		for id := range w.store.leases {
			if l := &w.store.leases[id]; l.alive && l.owner == m && l.gen == m.gen {
				l.poison = true
			}
		}
		w.checkDeaths()
		w.calmAt = max(w.calmAt, w.Now)
		m.die(w.ids[r] + " kills it")
		w.after(ttl, w.reassign)
		if !w.closing {
			w.after(w.UpTo(2*ttl), m.startAgain)
		}
	})
}

// hidesDeaths says whether a member may handle what it would go by before it can know: a supervisor makes takeovers
// fast, and news are slow.
func (w *world) hidesDeaths() bool { return w.plan.Supervised && w.plan.Slow > 0 }

// checkDeaths looks whether more members have died of poison than may.
func (w *world) checkDeaths() {
	if w.hidesDeaths() {
		return
	}
	if most := w.plan.QuarantineAfter * (w.plan.Poison + w.pardons); w.deaths > most {
		w.Failf("%d members have died of %d poison resources, at most %d may", w.deaths, w.plan.Poison, most)
	}
}

// pardon notes that something has ended what a resource is accused of, so that further members may die of it.
func (w *world) pardon() { w.pardons++ }

// checkVerdict looks whether a resource is quarantined that is no poison, though only poison has killed.
func (w *world) checkVerdict(r int, deaths []core.Death) {
	w.count(Quarantined)
	if w.isPoison(r) {
		return
	}
	pardons := w.pardons
	w.pardon() // the trails of these deaths accuse nobody any more
	if w.plan.QuarantineAfter < 3 || pardons > 0 {
		return // it may have begun beside the poison that often
	}
	for _, d := range deaths {
		if !w.store.leases[d.Lease].poison {
			return
		}
	}
	w.Failf("%s is quarantined, and is innocent", w.ids[r])
}

// checkTrace looks, when Handle or Update begins, whether etcd has the trail that lists the resource.
func (m *member) checkTrace(c *call) {
	w := m.w
	if w.plan.QuarantineAfter == 0 || !w.store.leases[c.a.Lease].alive {
		return
	}
	if !slices.Contains(w.store.trailOf(c.a.Shard, c.a.Lease).ids, c.a.ID) {
		w.Failf("%s: %v of %s, which no trail lists", m.name, c.a.Kind, c.a.ID)
	}
}

// checkAlone looks, when the core calls Handle, whether the core knows that the resource must be handled alone, or not
// at all.
func (m *member) checkAlone(a core.Action) {
	w := m.w
	n := m.core.Suspicion(a.Shard, a.ID)
	if w.plan.QuarantineAfter == 0 || !m.core.Alone(a.Shard, a.ID) {
		return
	}
	// Further members may have died of a crowd before, or of what they did not know yet.
	known := w.plan.Crowd >= w.plan.Resources && w.pardons == 0 && !w.hidesDeaths()
	if known && n-w.livesInOrder(a) >= w.plan.QuarantineAfter {
		w.Failf("%s: Handle of %s, which is accused of %d deaths", m.name, a.ID, n)
		return
	}
	w.count(Isolated)
	for r, c := range m.calls {
		if c != nil && !c.stuck && c.a.Kind != core.Terminate && r != resourceOf(a) {
			w.Failf("%s: Handle of %s, which is accused of %d deaths, beside that of %s", m.name, a.ID, n, w.ids[r])
		}
	}
	for _, k := range m.keepers {
		if !w.store.leases[k.id].alive && !k.closed {
			return // the key may have gone with that lease
		}
	}
	if l := w.store.alone; l.m != m || l.gen != m.gen {
		w.Failf("%s: Handle of %s, which is accused of %d deaths, is not the only one: %+v", m.name, a.ID, n, l)
	}
}

// livesInOrder counts the lives that have ended in order, and whose trails list a resource all the same: etcd has
// carried out their writes when the members had stopped. A member that stops does not wait for that.
func (w *world) livesInOrder(a core.Action) int {
	var lives []process
	for _, t := range w.store.trails[a.Shard] {
		p := process{t.member, t.life}
		if slices.Contains(t.ids, a.ID) && w.inOrder[p] && !slices.Contains(lives, p) {
			lives = append(lives, p)
		}
	}
	return len(lives)
}
