package groupsim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// writes checks what the coordinator has written, by what it saw when it decided on that.
func (j *judge) writes(was, is *membership.View, c change) {
	w, m := j.w, c.by
	v := m.decided
	if v == nil {
		w.Failf("%s publishes without a view", m.id)
		return
	}
	if is.Coordinator.ID != m.id && was.Coordinator.ID != m.id {
		w.Failf("rev %d: %s publishes, and %s coordinates", is.Revision, m.id, is.Coordinator.ID)
	}
	_, rolls := j.rollout(m, v)
	if rolls {
		w.count(Rollouts)
	}
	for _, before := range c.keys {
		key := w.layout.Parse(before.key)
		kv := w.store.kvs[before.key]
		switch key.Kind {
		case keys.Exception:
			if kv == nil {
				w.count(Tidied)
				if v.Revision == was.Revision && is.Owner(key.Number) != was.Owner(key.Number) {
					w.Failf("rev %d: %s drops the exception of shard %d, which goes from %s to %s",
						is.Revision, m.id, key.Number, was.Owner(key.Number), is.Owner(key.Number))
				}
				continue
			}
			j.exception(m, v, was, is, key.Number, is.Exceptions[key.Number])
		case keys.Drain:
			if kv == nil {
				j.ends(m, key.ID, was.Drains[key.ID])
				continue
			}
			j.keeps(key.ID, before.kv, was.Drains[key.ID], kv, is.Drains[key.ID])
		case keys.Cordon:
			if j.ends(m, key.ID, was.Cordons[key.ID]); kv != nil {
				w.Failf("rev %d: the coordinator %s cordons %s", is.Revision, m.id, key.ID)
			}
		case keys.Weight:
			now, before := is.Weights[key.ID], was.Weights[key.ID]
			for n, kept := range now.Keeps {
				if kept && !in(before.Keeps, n) {
					w.Failf("%s keeps shard %d, which it did not keep before", key.ID, n)
				}
			}
			if now.Order != before.Order || now.Weight != before.Weight {
				w.Failf("the coordinator changes the weight of %s: %+v, before %+v", key.ID, now, before)
			}
		case keys.Slot:
			j.frees(was, key, string(before.kv.Value), string(kv.Value))
		case keys.Block:
			j.frees(was, key, blockAt(was, key.Number).Member, blockAt(is, key.Number).Member)
		case keys.Prepared:
		default:
			w.Failf("rev %d: the coordinator %s writes %s", is.Revision, m.id, before.key)
		}
	}
	j.budget(m)
}

// exception checks an exception that the coordinator has published. v is what it saw.
func (j *judge) exception(m *member, v, was, is *membership.View, n int, e membership.Exception) {
	w := j.w
	to, from := e.Member, v.Owner(n)
	if e.Then != "" && e.Why == membership.WhyLeave {
		to = e.Then // the shard's former owner gets it when it comes back
	}
	joins := v.Members[to].State == membership.Joining
	if from == to {
		w.count(Kept)
		return
	}
	if v.HasOlder() && e.Why != membership.WhyDrain {
		w.Failf("rev %d: %s places shard %d, and sees a member of Schema 1", is.Revision, m.id, n)
	}
	if p, pinned := v.Pins[n]; pinned && p.Member == from && e.Why != membership.WhyDrain && !j.goes(v, from) {
		w.Failf("rev %d: %s places shard %d with %s (%s), and it is pinned to %s",
			is.Revision, m.id, n, to, e.Why, from)
	}
	newer, rolls := j.rollout(m, v)
	switch e.Why {
	case membership.WhyJoin:
		w.count(Prepared)
		if _, owned := v.Members[from]; rolls && owned && !j.goes(v, from) {
			w.Failf("rev %d: %s takes shard %d from %s for a newcomer, during a rollout", is.Revision, m.id, n, from)
		}
	case membership.WhyLeave:
		w.count(Prepared)
	case membership.WhyDrain:
		w.count(Drained)
		if keeps, _ := keepsOnly(v, from); !in(keeps, n) {
			w.Failf("rev %d: %s places shard %d, which %s does not keep", is.Revision, m.id, n, from)
		}
		if w.load[n] > 0 && is.Owner(n) == to && was.Owner(n) != to {
			j.send(m, n, to)
		}
	case membership.WhyBound:
		w.count(Corrected)
		j.correction(m, v, is, n)
		if was.Owner(n) != is.Owner(n) && is.Owner(n) == to {
			j.again(m, n)
			if !j.isNews(n) {
				j.spent = append(j.spent, spent{w.Now, w.load[n]})
			}
			if w.load[n] > 0 {
				j.send(m, n, to)
			}
		}
	default:
		w.Failf("rev %d: %s moves shard %d from %s to %s because of %q", is.Revision, m.id, n, from, to, e.Why)
	}
	if joins {
		if v.Ordered(to) || e.Then != from && e.Why != membership.WhyLeave {
			w.Failf("rev %d: %s gives shard %d to %s, which joins: %+v", is.Revision, m.id, n, to, e)
		}
		return
	}
	if why := unfit(v, to); why != "" {
		for id := range v.Members {
			if id != from && unfit(v, id) == "" {
				w.Failf("rev %d: %s gives shard %d to %s, which is %s, though there is %s",
					is.Revision, m.id, n, to, why, id)
			}
		}
		if e.Why == membership.WhyBound {
			w.Failf("rev %d: %s gives shard %d to %s for balance, which is %s", is.Revision, m.id, n, to, why)
		}
	}
	if rolls && v.Members[to].Version != newer {
		for id, other := range v.Members {
			if id != from && other.Version == newer && unfit(v, id) == "" {
				w.Failf("rev %d: during a rollout, %s gives shard %d to %s of the older version, though there is %s",
					is.Revision, m.id, n, to, id)
			}
		}
	}
}

// isNews says whether the coordinator may not know what a shard weighs.
func (j *judge) isNews(n int) bool { return j.reloaded[n] != 0 && j.w.Now-j.reloaded[n] < unheard }

// send notes that a shard is on its way to a member.
func (j *judge) send(by *member, n int, to string) {
	if j.late || j.isNews(n) { // what the coordinator has sent could not reckon with that
		return
	}
	m := j.w.named(to)
	// It may have had the shard a moment ago, and not have let go of it, or not have said so.
	if j.w.holders[n].m != m && !m.says(n) {
		j.onWay[n] = sending{by.number, to, m.life, j.w.load[n], j.w.Now}
	}
}

// says says whether a member has said what a shard weighs, and nothing else since.
func (m *member) says(n int) bool {
	return strings.Contains(m.said, fmt.Sprintf("%q:", strconv.Itoa(n)))
}

// isSaid says whether any member does.
func (j *judge) isSaid(n int) bool {
	return slices.ContainsFunc(j.w.members, func(m *member) bool { return m.stage == joined && m.says(n) })
}

// goes says whether a member is about to stop, or is not there any more.
func (j *judge) goes(v *membership.View, id string) bool {
	m, live := v.Members[id]
	return !live || m.Leaves || m.State == membership.Leaving
}

// unfit says why a member must be given nothing; "" if it may.
func unfit(v *membership.View, id string) string {
	_, cordoned := v.Cordons[id]
	_, restricted := keepsOnly(v, id)
	switch {
	case !works(v, id):
		return "not able to work"
	case restricted:
		return "drained"
	case cordoned:
		return "cordoned"
	case v.DeclinesAny(id):
		return "full"
	case v.Members[id].Leaves:
		return "about to stop"
	}
	return ""
}

// correction checks that something may be moved for balance.
func (j *judge) correction(m *member, v, is *membership.View, n int) {
	w := j.w
	for id, other := range v.Members {
		if !other.HasJoined() || other.Leaves {
			w.Failf("rev %d: %s moves shard %d for balance, and %s is %s", is.Revision, m.id, n, id, other.State)
		}
	}
	for id := range v.Reservations {
		w.Failf("rev %d: %s moves shard %d for balance, and %s is expected back", is.Revision, m.id, n, id)
	}
	for id, d := range v.Drains {
		if slices.Contains(d.Keeps, true) && !v.DrainsIgnored() {
			w.Failf("rev %d: %s moves shard %d for balance, and %s is being drained", is.Revision, m.id, n, id)
		}
	}
	if _, rolls := j.rollout(m, v); rolls {
		w.Failf("rev %d: %s moves shard %d for balance during a rollout", is.Revision, m.id, n)
	}
	if w.Now-m.quiet < w.quiet() && !m.hastened {
		w.Failf("rev %d: %s moves shard %d for balance %v after something has changed",
			is.Revision, m.id, n, w.Now-m.quiet)
	}
}

// rollout says whether the coordinator must take the group for one that is being upgraded.
func (j *judge) rollout(m *member, v *membership.View) (newer string, on bool) {
	last := int64(0)
	versions := map[string]bool{}
	for _, other := range v.Members {
		if other.State == membership.Leaving {
			continue
		}
		versions[other.Version] = true
		if other.CreateRevision > last {
			newer, last = other.Version, other.CreateRevision
		}
	}
	return newer, len(versions) > 1 && j.w.Now-m.quiet < stalled
}

// again checks that a shard is not moved for balance a second time within a while.
func (j *judge) again(m *member, n int) {
	if p := j.placed[n]; p.by != nil {
		apart := (p.by.clock - m.clock).Abs()
		if d := j.w.Now - p.at; d < j.w.again()-apart-2*time.Second {
			j.w.Failf("shard %d is moved for balance again after %v, by %s; before by %s", n, d, m.id, p.by.id)
		}
	}
	j.placed[n] = placed{m, j.w.Now}
}

// budget checks that no more moves in a minute, and that no more is on its way, than may be.
func (j *judge) budget(m *member) {
	w := j.w
	rules := w.rules()
	heaviest := slices.Max(w.load)
	sum := int64(0)
	for _, s := range j.spent {
		if w.Now-s.at < time.Minute {
			sum += s.load
		}
	}
	if sum > 2*rules.PerMinute+heaviest { // what was saved, and what a minute allows
		w.Failf("%d is moved for balance in a minute, of which %d may", sum, rules.PerMinute)
	}
	all, to, count := int64(0), map[string]int64{}, map[string]int{}
	for _, n := range slices.Sorted(maps.Keys(j.onWay)) {
		s := j.onWay[n]
		if s.term != m.number && !j.isSaid(n) { // in another term, nobody can know what the shard weighs
			continue
		}
		all += s.load
		to[s.to] += s.load
		count[s.to]++
	}
	if all > rules.Moving+heaviest {
		w.Failf("%d is on its way, of which %d may be: %v", all, rules.Moving, j.onWay)
	}
	for _, id := range slices.Sorted(maps.Keys(to)) {
		if to[id] > rules.MovingPerMember && count[id] > 1 {
			w.Failf("%d is on its way to %s, of which %d may be: %v", to[id], id, rules.MovingPerMember, j.onWay)
		}
	}
}

// ends checks that an order is over which the coordinator takes back.
func (j *judge) ends(m *member, id string, order membership.Restriction) {
	if order.Until.IsZero() || m.wall().Before(order.Until.Add(4*time.Minute)) {
		j.w.Failf("the coordinator %s takes back an order about %s, which ends at %v", m.id, id, order.Until)
	}
}

// frees checks that slots which the coordinator frees were those of a member that is gone and not expected back.
func (j *judge) frees(was *membership.View, key keys.Key, from, to string) {
	j.w.count(Freed)
	_, live := was.Members[from]
	_, reserved := was.Reservations[from]
	if to != "" || from == "" || live || reserved {
		j.w.Failf("the coordinator gives slot %d of %q to %q (live %t, reserved %t)",
			key.Number, from, to, live, reserved)
	}
}

// blockAt returns the block that begins at a slot.
func blockAt(v *membership.View, from int) shard.Block {
	for _, b := range v.Blocks {
		if b.From == from {
			return b
		}
	}
	return shard.Block{}
}

// keeps checks that the coordinator changes nothing of an order to drain, but that the member keeps less.
func (j *judge) keeps(id string, old *mvccpb.KeyValue, was membership.Restriction,
	kv *mvccpb.KeyValue, is membership.Restriction,
) {
	if old == nil || kv == nil {
		j.w.Failf("the coordinator gives or takes back the order to drain %s", id)
		return
	}
	for n, kept := range is.Keeps {
		if kept && !in(was.Keeps, n) {
			j.w.Failf("%s keeps shard %d, which it did not keep before", id, n)
		}
	}
	if was.Order != is.Order || was.Until != is.Until || was.Force != is.Force || old.Lease != kv.Lease {
		j.w.Failf("the coordinator changes the order to drain %s: %+v, before %+v", id, is, was)
	}
}
