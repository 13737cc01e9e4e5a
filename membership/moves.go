package membership

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/distributed-resource-manager/drm/internal/excerpt"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

const (
	// MaxMoves is how many resources of an app may be moved away from the owners of their shards: each view has all
	// moves.
	MaxMoves = 1000
	// maxWhy is how many bytes of a move's reason are kept.
	maxWhy = 512
	// maxTried is how many members a move remembers at which the resource did not work.
	maxTried = 16
)

// Move says that a resource belongs to another member than its shard does, because it did not work there. It is in
// force while that member can own shards and has room; otherwise the resource belongs to the owner of its shard again.
type Move struct {
	Member string    `json:"member"` // to whom the resource belongs
	From   string    `json:"from"`   // who gave it away
	Why    string    `json:"why"`    // the last failure there; for people
	Since  time.Time `json:"since"`  // by the clock of From
	Tried  []Tried   `json:"tried"`  // where the resource did not work, the newest last

	// ModRevision is that of the move's key. It is not part of the value.
	ModRevision int64 `json:"-"`
}

// Tried is one member at which a resource did not work.
type Tried struct {
	Member string    `json:"member"`
	At     time.Time `json:"at"` // by that member's clock
}

// NextMove makes the move that follows when a resource does not work at a member, after the moves before. Members that
// have been tried since a time are not tried again; ok is false if no other member is left.
func (v *View) NextMove(resource, from, why string, now, since time.Time) (m Move, ok bool) {
	before, moved := v.Moves[resource]
	if !moved && len(v.Moves) >= MaxMoves {
		return Move{}, false
	}
	tried := slices.DeleteFunc(slices.Clone(before.Tried), func(t Tried) bool {
		return t.Member == from || t.At.Before(since)
	})
	tried = append(tried, Tried{from, now.UTC()})
	tried = tried[max(0, len(tried)-maxTried):]
	n := shard.Of(resource, v.Shards)
	to := v.takers().OwnerWithout(n, func(id string) bool {
		return v.Declines(id, n) || slices.ContainsFunc(tried, func(t Tried) bool { return t.Member == id })
	})
	if to == "" {
		return Move{}, false
	}
	return Move{
		Member: to, From: from, Why: excerpt.Within(why, maxWhy), Since: now.UTC(), Tried: tried,
		ModRevision: before.ModRevision,
	}, true
}

// MovedOf returns the exceptions that concern a member, by shard and resource: true for a resource that was moved to
// the member, and false for one that was moved away from it. Nothing is changed by who owns the shard, so that a
// resource that was moved to the owner of its shard is in it too.
func (v *View) MovedOf(member string) map[int]map[string]bool {
	var all map[int]map[string]bool
	for resource, m := range v.Moves {
		n := shard.Of(resource, v.Shards)
		if !v.inForce(m, n) {
			continue
		}
		mine := m.Member == member
		if !mine && v.Owner(n) != member {
			continue
		}
		if all == nil {
			all = map[int]map[string]bool{}
		}
		if all[n] == nil {
			all[n] = map[string]bool{}
		}
		all[n][resource] = mine
	}
	return all
}

// movedTo says to whom a resource was moved, if that is in force.
func (v *View) movedTo(resource string) (member string, moved bool) {
	m, moved := v.Moves[resource]
	if !moved || !v.inForce(m, shard.Of(resource, v.Shards)) {
		return "", false
	}
	return m.Member, true
}

// takers returns the ring of the members that are eligible and not cordoned.
func (v *View) takers() *shard.Ring {
	takes := func(id string) bool {
		_, cordoned := v.Cordons[id]
		return !cordoned && v.Eligible(id)
	}
	return v.ringOf(takes, func(string) bool { return false }, true)
}

// inForce says whether the member that a move names takes the resource: it may own shards, has room for what is in the
// resource's shard, and was not cordoned before. As for shards, what members of Schema 1 make of it counts if one of
// the two members that are concerned is one of these.
func (v *View) inForce(m Move, n int) bool {
	if v.older != nil && !(v.knows(m.Member) && v.knows(v.Owner(n))) {
		return v.older[m.Member] != nil && !v.Declines(m.Member, n)
	}
	cordon, cordoned := v.Cordons[m.Member]
	return v.Eligible(m.Member) && !v.Declines(m.Member, n) && !(cordoned && m.ModRevision > cordon.ModRevision)
}

// Encode returns the value of a move's key.
func (m Move) Encode() string {
	b, err := json.Marshal(m)
	if err != nil { // happens only for a time outside of the years 0 to 9999
		panic(fmt.Sprintf("membership: encode %+v: %v", m, err))
	}
	return string(b)
}

func decodeMove(value []byte, modRevision int64) (Move, bool) {
	var m Move
	if json.Unmarshal(value, &m) != nil || keys.CheckID(m.Member) != nil {
		return Move{}, false
	}
	m.ModRevision = modRevision
	return m, true
}
