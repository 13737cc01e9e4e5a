package membership

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

// Member is one member's key.
type Member struct {
	Record
	ID             string
	CreateRevision int64
	Lease          int64
}

// Coordinator is the elected member's key. Its zero value stands for nobody.
type Coordinator struct {
	ID             string // empty where the key is there, but is not understood
	CreateRevision int64
	Lease          int64
}

// View is the group at one revision: who the members are and which shard is whose. It does not change once made; share
// it freely.
type View struct {
	Revision    int64
	Shards      int
	Members     map[string]Member
	Slots       []string             // slot → the id that reserves it; empty where none does
	Drains      map[string]time.Time // operators' orders, of members that may not be there: since when, zero where that is not known
	Coordinator Coordinator
	Corrupt     []string // keys below group/ that are not understood, and were left out; in order

	owners  []string
	ignored bool // the drains are
}

// NewView makes the view of what lies below group/ at a revision. The order of kvs makes no difference.
func NewView(layout keys.Layout, shards int, kvs []*mvccpb.KeyValue, revision int64) *View {
	v := &View{Revision: revision, Shards: shards, Members: map[string]Member{}, Drains: map[string]time.Time{}}
	pins, placement := map[int]string{}, map[int]string{}
	for _, kv := range kvs {
		key := layout.Parse(string(kv.Key))
		ok := true
		switch key.Kind {
		case keys.Member:
			r, err := decodeRecord(kv.Value)
			if ok = err == nil; ok {
				v.Members[key.ID] = Member{Record: r, ID: key.ID, CreateRevision: kv.CreateRevision, Lease: kv.Lease}
			}
		case keys.Slot:
			for len(v.Slots) <= key.Number {
				v.Slots = append(v.Slots, "")
			}
			id := string(kv.Value)
			if ok = id == "" || keys.CheckID(id) == nil; ok {
				v.Slots[key.Number] = id
			}
		case keys.Drain:
			v.Drains[key.ID] = drainedSince(kv.Value)
		case keys.Pin:
			id := string(kv.Value)
			if ok = id == "" || keys.CheckID(id) == nil; ok {
				pins[key.Number] = id
			}
		case keys.Placement:
			placement, ok = decodePlacement(kv.Value)
		case keys.Coordinator: // whatever it says, the office is not free while the key is there
			v.Coordinator = Coordinator{CreateRevision: kv.CreateRevision, Lease: kv.Lease}
			if ok = keys.CheckID(string(kv.Value)) == nil; ok {
				v.Coordinator.ID = string(kv.Value)
			}
		default:
			ok = false
		}
		if !ok {
			v.Corrupt = append(v.Corrupt, string(kv.Key))
		}
	}
	slices.Sort(v.Corrupt)
	v.ignored = len(v.eligible(true)) == 0 && len(v.eligible(false)) > 0
	v.owners = v.assign(pins, placement)
	return v
}

// DrainValue is the value of a drain's key: since when it stands, for people.
func DrainValue(since time.Time) string { return since.UTC().Format(time.RFC3339) }

// drainedSince reads it. The key is the order, whatever its value says: one that is not understood is as good as none.
func drainedSince(value []byte) time.Time {
	since, err := time.Parse(time.RFC3339, string(value))
	if err != nil || since.Year() < 1970 {
		return time.Time{}
	}
	return since.UTC()
}

// decodePlacement reads {"shard":"member", …}. Each shard has one spelling: of two, which one counts would be left to
// chance, and members would disagree.
func decodePlacement(value []byte) (map[int]string, bool) {
	var byName map[string]string
	if json.Unmarshal(value, &byName) != nil {
		return nil, false
	}
	placement := make(map[int]string, len(byName))
	for name, member := range byName {
		n, err := strconv.Atoi(name)
		if err != nil || n < 0 || n >= keys.MaxShards || strconv.Itoa(n) != name {
			return nil, false
		}
		placement[n] = member
	}
	return placement, true
}

func (v *View) assign(pins, placement map[int]string) []string {
	eligible := v.eligible(!v.ignored)
	slots := make([]string, len(v.Slots))
	for id := range eligible {
		for _, s := range v.Members[id].Slots {
			if s < len(slots) && v.Slots[s] == id {
				slots[s] = id
			}
		}
	}
	live := func(id string) bool { return eligible[id] }
	return shard.Assign(v.Shards, shard.NewRing(slots), pins, placement, live)
}

// eligible is the set of members that may own shards.
func (v *View) eligible(heedDrains bool) map[string]bool {
	set := map[string]bool{}
	for id, m := range v.Members {
		if m.State == Active && (!heedDrains || !v.Ordered(id)) {
			set[id] = true
		}
	}
	return set
}

// Alone says whether nobody but that member could own shards, now or when it has become active.
func (v *View) Alone(member string) bool {
	for id, m := range v.Members {
		if id != member && (m.State == Active || m.State == Joining) {
			return false
		}
	}
	return true
}

// Owner returns the member that a shard belongs to; empty where nobody is eligible.
func (v *View) Owner(n int) string {
	if n < 0 || n >= len(v.owners) {
		return ""
	}
	return v.owners[n]
}

// OwnerOf returns the shard of a resource and the member it belongs to.
func (v *View) OwnerOf(resource string) (shardNumber int, member string) {
	n := shard.Of(resource, v.Shards)
	return n, v.Owner(n)
}

// Owned says of each shard whether it is the member's.
func (v *View) Owned(member string) []bool {
	owned := make([]bool, len(v.owners))
	for n, owner := range v.owners {
		owned[n] = owner == member && owner != ""
	}
	return owned
}

// Owners returns the owner of each shard. The slice is the caller's.
func (v *View) Owners() []string { return slices.Clone(v.owners) }

// DrainsIgnored says that every active member is ordered to be drained, so that nobody is.
func (v *View) DrainsIgnored() bool { return v.ignored }

// Ordered says whether a member, which need not be there, is ordered to be drained; the order may be ignored.
func (v *View) Ordered(id string) bool {
	_, ordered := v.Drains[id]
	return ordered
}

// LastToTake says whether a member is there, and nobody besides it is that is active, or will be, and not ordered to be drained:
// were it ordered too, all orders would be ignored.
func (v *View) LastToTake(id string) bool {
	if m, live := v.Members[id]; !live || m.State == Leaving {
		return false
	}
	for other, m := range v.Members {
		if other != id && (m.State == Active || m.State == Joining) && !v.Ordered(other) {
			return false
		}
	}
	return true
}

// Known says whether there is anything of a member: its key, a slot that is reserved for it, or an order about it.
func (v *View) Known(id string) bool {
	_, live := v.Members[id]
	return live || v.Ordered(id) || slices.Contains(v.Slots, id) || v.Coordinator.ID == id
}

// HasItsSlots says whether every slot that a member lists as its own is reserved for it. Those that are not count for
// nothing: were all of them deleted by hand, the member would own no shard for ever.
func (v *View) HasItsSlots(id string) bool {
	for _, s := range v.Members[id].Slots {
		if s >= len(v.Slots) || v.Slots[s] != id {
			return false
		}
	}
	return true
}

// StateOf is a member's state as an operator sees it: that of its key, or Draining where that is ordered, and not ignored.
func (v *View) StateOf(id string) State {
	m := v.Members[id]
	if m.State == Active && v.Ordered(id) && !v.ignored {
		return Draining
	}
	return m.State
}

// SourceWanted says whether some member other than id has a source, is active, and so should coordinate rather than one without.
func (v *View) SourceWanted(id string) bool {
	for other, m := range v.Members {
		if other != id && m.Source && m.State == Active {
			return true
		}
	}
	return false
}

// SameMembers says whether two views have the same members in the same states, so that nothing of the group changed
// between them but, say, the coordinator.
func (v *View) SameMembers(w *View) bool {
	return maps.EqualFunc(v.Members, w.Members, func(a, b Member) bool {
		return a.CreateRevision == b.CreateRevision && a.State == b.State
	}) && slices.Equal(v.owners, w.owners)
}
