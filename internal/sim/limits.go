package sim

import (
	"slices"
	"time"

	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/groupsim"
)

// Limits are the bounds that the members of a run have, besides how much they do at once. The zero value has none.
type Limits struct {
	MaxResources int  // claims of one member
	HandleRate   bool // whether each member bounds how often it calls Handle
	KeyRate      bool // whether the group bounds that for each key
}

// The rates of runs that have any. They are so high that everything is handled in time.
var (
	simHandleRate = core.Rate{PerSecond: 5, Burst: 2}
	simKeyRate    = core.Rate{PerSecond: 6, Burst: 2}
)

// retakeAfter is how long a member must have had room until it takes shards back.
const retakeAfter = time.Second

// slowness is how much longer than without limits it may take until all is well.
func (l Limits) slowness() time.Duration {
	slow := time.Duration(0)
	if l.HandleRate || l.KeyRate {
		slow += 15 * time.Second
	}
	if l.MaxResources > 0 {
		slow += 30 * time.Second
	}
	return slow
}

// bound gives the member's core the limits of the plan.
func (l Limits) bound(cfg *core.Config) {
	cfg.MaxResources, cfg.RetakeAfter = l.MaxResources, retakeAfter
	cfg.ShareGrace = 200 * time.Millisecond
	if l.HandleRate {
		cfg.HandleRate = simHandleRate
	}
	if l.KeyRate {
		cfg.KeyRate = simKeyRate
	}
}

// keyOf is the key of a resource: none for every third one.
func keyOf(r int) string { return []string{"", "even", "odd"}[r%3] }

// findKey answers a FindKey of the core, some time later.
func (m *member) findKey(a core.Action) {
	found := !m.w.Chance(m.w.plan.Bad / 4)
	if !found {
		m.w.count(Keyless)
	}
	m.after(m.w.UpTo(20*time.Millisecond), func() {
		m.post(func() {
			m.core.KeyFound(m.clock(), a.Shard, a.ID, a.Token, keyOf(resourceOf(a)), found)
			m.step()
		})
	})
}

// share is the part of the keys' rates that a member has by the newest view.
func (m *member) share() core.Share {
	s := core.Share{Since: int64(m.gen)}
	for _, other := range m.w.members {
		if other.isMember() {
			s.All++
		}
	}
	if m.isMember() {
		s.Mine = 1
	}
	s.Alone = s.All == s.Mine
	return s
}

// noteHandle notes that the core has called Handle, and checks that it does so no more often than its rates allow.
func (m *member) noteHandle(a core.Action) {
	check := func(bound bool, key string, r core.Rate, burst float64) {
		if !bound {
			return
		}
		now := m.clock()
		m.begun[key] = append(m.begun[key], now)
		times := m.begun[key]
		for i, from := range slices.Backward(times) {
			n := float64(len(times) - i)
			if allowed := burst + r.PerSecond*(now-from).Seconds() + 1e-6; n > allowed {
				m.w.Failf("%s: %v calls of Handle within %v for the key %q, and the rate allows %.2f",
					m.name, n, now-from, key, allowed)
				return
			}
		}
	}
	l := m.w.plan.Limits
	check(l.HandleRate, "the member", simHandleRate, float64(simHandleRate.Burst))
	if key := keyOf(resourceOf(a)); key != "" && m.w.plan.Bad == 0 { // a key that is not found has another budget
		check(l.KeyRate, key, simKeyRate, float64(simKeyRate.Burst))
	}
}

// tellDeclined makes the others see which shards this member declines.
func (m *member) tellDeclined() {
	w, said := m.w, m.declines()
	w.count(Declined)
	w.Tracef("%s: declines %v, lacks %v", m.name, said.shards, said.lacks)
	if w.group != nil {
		m.after(w.delay(), func() { w.inGroup(func(g *groupsim.Group) { g.Heed(m.index) }) })
		return
	}
	m.after(w.delay(), func() {
		w.declines[m.index] = said
		w.reassign()
	})
}

// decline is what a member says of the shards that it declines.
type decline struct {
	shards []bool
	lacks  []int
}

// declines is what the member has to say now.
func (m *member) declines() (d decline) {
	d.shards, d.lacks = m.core.Declined()
	return d
}

// says says whether two declines say the same.
func (d decline) says(other decline) bool {
	return slices.Equal(d.shards, other.shards) && slices.Equal(d.lacks, other.lacks)
}

// passOn gives the shards that their owners decline to others, as the view does.
func (w *world) passOn(s int, live []int) {
	for i := range live {
		next := live[(s*7+w.moved[s]+i)%len(live)]
		if !w.hasDeclined(next, s) {
			w.owners[s] = next
			return
		}
	}
}

// hasDeclined says whether a member declines a shard, as far as the others know.
func (w *world) hasDeclined(member, shard int) bool {
	if w.group != nil {
		return w.group.View().Declines(w.group.ID(member), shard)
	}
	declined := w.declines[member].shards
	return shard < len(declined) && declined[shard]
}

// lacks says, for each shard that all decline, how many resources are wanted if its owner has no room for them.
func (w *world) lacks() []int {
	all := make([]int, len(w.owners))
	for s, o := range w.owners {
		if o >= 0 && w.hasDeclined(o, s) && w.declines[o].lacks != nil {
			all[s] = w.declines[o].lacks[s]
		}
	}
	return all
}

// claimsOf counts the claims of a process that etcd has.
func (w *world) claimsOf(m *member) (n int) {
	for _, c := range w.store.claims {
		if l := w.store.leases[c.lease]; c.token != 0 && l.owner == m && l.gen == m.gen {
			n++
		}
	}
	return n
}

// checkCeilings looks for a member that has more claims than it may have.
func (w *world) checkCeilings() {
	most := w.plan.Limits.MaxResources
	if most == 0 {
		return
	}
	for _, m := range w.members {
		if n := w.claimsOf(m); m.up && n > most {
			w.Failf("%s has %d claims, and may have %d", m.name, n, most)
		}
	}
}

// wanted counts some of the resources that are wanted.
func (w *world) wanted(some func(r int) bool) (n int) {
	for r, e := range w.entries {
		if e.exists && !e.suspended && some(r) {
			n++
		}
	}
	return n
}

// mayLack says whether nobody need have a resource, since it belongs to nobody, or there is no room for it.
func (w *world) mayLack(r int) bool {
	if w.group != nil && w.ownerOf(r) < 0 { // no member may own it
		return true
	}
	most, s := w.plan.Limits.MaxResources, w.shardOf(r)
	if most == 0 || w.owners[s] < 0 || w.claimsOf(w.members[w.owners[s]]) < most {
		return false
	}
	size := w.wanted(func(other int) bool { return w.shardOf(other) == s })
	for _, m := range w.members { // another member would have taken the whole shard if it had room
		if !w.couldTake(m) {
			continue
		}
		kept := w.wanted(func(other int) bool {
			return w.ownerOf(other) == m.index && !w.hasDeclined(m.index, w.shardOf(other))
		})
		if m.index != w.owners[s] && m.endless(-1) == 0 && max(w.claimsOf(m), kept)+size <= most {
			return false
		}
	}
	w.count(Lacking)
	return true
}
