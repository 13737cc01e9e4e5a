package placement

import (
	"slices"
	"time"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/membership"
)

// loads is what is known of the weight of shards, and of what is on its way between members.
type loads struct {
	shards  []int64           // by shard: what it weighs
	said    [][]saidLoad      // by shard: what members say of it, at most one of each
	since   []int64           // by shard: the revision at which its owner was first seen to own it
	at      []time.Duration   // by shard: when it was last seen to be placed, or to have another owner
	silence []time.Duration   // by shard: since when its owner has not named it, though it weighed something; 0: never
	began   int64             // the revision of the first view
	members map[string]report // by member
}

// saidLoad is what a member says of a shard.
type saidLoad struct {
	member string
	load   int64
}

// report is what a member said last.
type report struct {
	claims.Loads
	revision int64
	seen     int64 // what the member owns by a later view, it did not know of
}

func newLoads(shards int) loads {
	return loads{
		shards: make([]int64, shards), said: make([][]saidLoad, shards), since: make([]int64, shards),
		at: make([]time.Duration, shards), silence: make([]time.Duration, shards), members: map[string]report{},
	}
}

// take takes what a member says. The view may be nil, or show an earlier state of the group than the member has seen.
func (l *loads) take(member string, said claims.Loads, revision int64, v *membership.View) {
	before := l.members[member]
	if revision < before.revision {
		return
	}
	seen := min(said.Seen, revision)
	if seen == 0 {
		seen = revision
	}
	l.members[member] = report{said, revision, seen}
	for n := range before.Shards {
		if _, still := said.Shards[n]; !still {
			l.said[n] = slices.DeleteFunc(l.said[n], func(s saidLoad) bool { return s.member == member })
			l.weigh(n, v)
		}
	}
	for n, load := range said.Shards {
		of := slices.IndexFunc(l.said[n], func(s saidLoad) bool { return s.member == member })
		if of < 0 {
			of = len(l.said[n])
			l.said[n] = append(l.said[n], saidLoad{member: member})
		}
		l.said[n][of].load = load
		l.weigh(n, v)
	}
}

// weigh finds what a shard weighs: what its owner says. Until the owner has said something as the owner, it is what
// others have said last, or the weight that was known before.
func (l *loads) weigh(n int, v *membership.View) {
	owner := ""
	if v != nil {
		owner = v.Owner(n)
	}
	said, told := l.members[owner]
	if load, lists := said.Shards[n]; lists {
		l.shards[n] = load
		return
	}
	silent := !told || said.seen < l.since[n]
	last := int64(-1)
	for _, s := range l.said[n] {
		if at := l.members[s.member].revision; at > last && (silent || at > said.revision) {
			l.shards[n], last = s.load, at
		}
	}
	if last < 0 && !silent && said.seen <= v.Revision { // otherwise it may know of a later owner, see settle
		l.shards[n] = 0
	}
}

// see takes a new view. before is the last one, nil at first.
func (l *loads) see(before, v *membership.View, now time.Duration) {
	if before == nil {
		l.began = v.Revision
	}
	for n := range l.shards {
		if before == nil || before.Owner(n) != v.Owner(n) {
			l.since[n], l.at[n] = v.Revision, now
			l.weigh(n, v)
		}
	}
	for n, e := range v.Exceptions { // the shard may have been elsewhere for a moment
		if n < len(l.at) && before != nil && before.Exceptions[n].ModRevision != e.ModRevision {
			l.at[n] = now
		}
	}
}

// forget drops what a member said that is gone. The shards' weights stay: somebody else has them now.
func (l *loads) forget(member string) {
	for n := range l.members[member].Shards {
		l.said[n] = slices.DeleteFunc(l.said[n], func(s saidLoad) bool { return s.member == member })
	}
	delete(l.members, member)
}

// onTheWay returns, by member, how much load it has not begun to handle yet: what it says of that, and what it owns
// without having said anything since. So it makes no difference who has placed a shard there, and whether the
// coordinator knows that it has.
func (l *loads) onTheWay(v *membership.View, now time.Duration) map[string]int64 {
	way := make(map[string]int64, len(l.members))
	for id, said := range l.members {
		way[id] = said.Pending
	}
	for n, load := range l.shards {
		owner := v.Owner(n)
		if load == 0 || owner == "" || now-l.at[n] >= unheard {
			continue
		}
		said := l.members[owner]
		_, lists := said.Shards[n]
		e := v.Exceptions[n]
		placed := e.Member == owner && e.ModRevision > said.seen
		if !lists || placed || l.since[n] > max(said.seen, l.began) {
			way[owner] += load
		}
	}
	return way
}

// expect notes what shards are going to weigh, of which nobody says anything yet.
func (l *loads) expect(load []int64, now time.Duration) {
	copy(l.shards, load)
	for n := range l.at {
		l.at[n], l.silence[n] = now, 0
	}
}

// settle takes the silence of members for an answer: one that has owned a shard for a while, and does not say that the
// shard weighs anything, says what it said before, or that the shard is empty now.
func (l *loads) settle(v *membership.View, now time.Duration) {
	for n, load := range l.shards {
		said, told := l.members[v.Owner(n)]
		_, lists := said.Shards[n]
		switch {
		case load == 0 || !told || lists:
			l.silence[n] = 0
		case l.silence[n] == 0:
			l.silence[n] = now
		case now-max(l.silence[n], l.at[n]) >= 2*unheard:
			l.shards[n] = 0
		}
	}
}

// changes returns when time alone is going to change what is known, if nobody says anything: a shard no longer counts
// as on its way, or the silence of its owner is an answer. It is 0 if that is not going to happen.
func (l *loads) changes(now time.Duration) (at time.Duration) {
	for n, load := range l.shards {
		if load == 0 {
			continue
		}
		moments := [...]time.Duration{l.at[n] + unheard, 0}
		if l.silence[n] != 0 {
			moments[1] = max(l.silence[n], l.at[n]) + 2*unheard
		}
		for _, next := range moments {
			if next > now && (at == 0 || next < at) {
				at = next
			}
		}
	}
	return at
}

// complete says whether every member that can own shards, and knows how to, has said what its shards weigh.
func (l *loads) complete(v *membership.View) bool {
	for id, m := range v.Members {
		if _, told := l.members[id]; !told && m.HasJoined() && m.Schema >= membership.Schema {
			return false
		}
	}
	return true
}
