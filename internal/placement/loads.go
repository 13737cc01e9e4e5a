package placement

import (
	"time"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/membership"
)

// loads is what is known of the weight of shards, and of what is on its way between members.
type loads struct {
	shards  []int64           // by shard: what its owner said last
	members map[string]report // by member
	sent    map[string][]sent // by member: what was sent to it, the oldest first
}

// report is what a member said last.
type report struct {
	claims.Loads
	revision int64
}

// sent is load that was placed at a member.
type sent struct {
	load     int64
	revision int64 // of the placement
	at       time.Duration
}

func newLoads(shards int) loads {
	return loads{shards: make([]int64, shards), members: map[string]report{}, sent: map[string][]sent{}}
}

// take takes what a member says.
func (l *loads) take(member string, said claims.Loads, revision int64, v *membership.View) {
	before := l.members[member]
	if revision < before.revision {
		return
	}
	l.members[member] = report{said, revision}
	for n := range before.Shards {
		if _, still := said.Shards[n]; !still && v.Owner(n) == member {
			l.shards[n] = 0
		}
	}
	for n, load := range said.Shards {
		l.shards[n] = load
	}
	kept := l.sent[member][:0]
	for _, s := range l.sent[member] {
		if s.revision > revision {
			kept = append(kept, s)
		}
	}
	l.sent[member] = kept
}

// forget drops what a member said that is gone. The shards' weights stay: somebody else has them now.
func (l *loads) forget(member string) {
	delete(l.members, member)
	delete(l.sent, member)
}

// send notes that load was placed at a member.
func (l *loads) send(member string, load, revision int64, now time.Duration) {
	l.sent[member] = append(l.sent[member], sent{load, revision, now})
}

// onTheWay returns how much load a member has not begun to handle yet.
func (l *loads) onTheWay(member string, now time.Duration) int64 {
	all := l.members[member].Pending
	for _, s := range l.sent[member] {
		if now-s.at < unheard {
			all += s.load
		}
	}
	return all
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
