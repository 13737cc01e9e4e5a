package membership

import (
	"encoding/json"
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

// Member is what one member's key says.
type Member struct {
	Record
	ID             string
	CreateRevision int64 // distinguishes this registration from an earlier or later one of the same id
	ModRevision    int64 // the revision at which the key was last written
	Lease          int64 // the lease that the key lives on
}

// Coordinator is what the key of the elected member says. The zero value means that there is no coordinator.
type Coordinator struct {
	ID             string // empty if the key exists but cannot be read
	CreateRevision int64  // the key's create revision, which identifies the coordinator's term
	Lease          int64  // the lease that the key lives on
}

// View is the group at one revision: who the members are, and which member owns each shard. It never changes once it is
// made, so it can be shared freely; callers must not change its fields.
type View struct {
	Revision     int64
	Shards       int                    // the number of shards
	Members      map[string]Member      // by id
	Slots        []string               // slot → the id of the member that has reserved it; empty if the slot is free
	Blocks       []shard.Block          // slots that are reserved together, in order
	Drains       map[string]Restriction // by member, which may be gone
	Cordons      map[string]Restriction // by member, which may be gone
	Weights      map[string]WeightOrder // by member, which may be gone
	Reservations map[string]Reservation // by member; all of them wait for members that have stopped
	Prepared     map[string]int64       // by member that comes or goes: the ModRevision for which all is prepared
	Pins         map[int]Pin            // by shard
	Exceptions   map[int]Exception      // by shard
	Moves        map[string]Move        // by resource; one whose member cannot own shards now is not in force
	Coordinator  Coordinator
	Schema       int      // the newest Schema that all members of the app have known at once; 0: no key says it
	Corrupt      []string // keys below group/ that cannot be read, in order; the view ignores them

	owners         []string           // the owner of each shard
	holds          map[string]*stance // by member that may own shards
	ignored        bool               // the drains are ignored
	allDrained     bool               // every member that has joined, and has a weight, is ordered to be drained
	unreadyIgnored bool               // unready members take shards as if they were ready
	table          map[int]string     // exceptions that have no key of their own

	// What members of Schema 1 make of it, while one lives: the members that may own shards, whether every member that
	// has joined is ordered to be drained, and whether unready ones take shards as if they were ready.
	older               map[string]*stance
	olderAllDrained     bool
	olderUnreadyIgnored bool

	declines map[string]Decline // by member that declines shards
	probes   *shard.Probes      // for rings that are sparse; nil: there is none yet. Views share it
}

// NewView makes the view of the keys below group/ at one revision, for an app with that Root (see Group) and that
// number of shards. The order of kvs makes no difference.
func NewView(root string, shards int, kvs []*mvccpb.KeyValue, revision int64) *View {
	return newView(root, shards, kvs, revision, nil)
}

// newView is NewView with what an earlier view of the app has computed for sparse rings; nil: there is none.
func newView(root string, shards int, kvs []*mvccpb.KeyValue, revision int64, probes *shard.Probes) *View {
	layout := keys.At(root)
	v := &View{
		Revision: revision, Shards: shards, probes: probes,
		Members: map[string]Member{}, Drains: map[string]Restriction{}, Cordons: map[string]Restriction{},
		Weights: map[string]WeightOrder{}, Reservations: map[string]Reservation{}, Prepared: map[string]int64{},
		Pins: map[int]Pin{}, Exceptions: map[int]Exception{}, Moves: map[string]Move{},
	}
	declines := map[string]decline{}
	for _, kv := range kvs {
		if key := layout.Parse(string(kv.Key)); !v.take(key, kv, declines) {
			v.Corrupt = append(v.Corrupt, string(kv.Key))
		}
	}
	v.order(layout)
	slices.Sort(v.Corrupt)
	v.weigh()
	v.takeDeclines(declines)
	v.owners = v.assign()
	return v
}

// take adds what a key says. It returns false if the key is not understood. declines collects what full members say.
func (v *View) take(key keys.Key, kv *mvccpb.KeyValue, declines map[string]decline) (ok bool) {
	ok = true
	switch key.Kind {
	case keys.Member:
		r, err := decodeRecord(kv.Value)
		if ok = err == nil; ok {
			v.Members[key.ID] = Member{
				Record: r, ID: key.ID, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Lease: kv.Lease,
			}
		}
	case keys.Slot:
		if more := key.Number + 1 - len(v.Slots); more > 0 {
			v.Slots = append(v.Slots, make([]string, more)...)
		}
		id := string(kv.Value)
		if ok = id == "" || keys.CheckID(id) == nil; ok {
			v.Slots[key.Number] = id
		}
	case keys.Block:
		var b shard.Block
		if b, ok = decodeBlock(key, kv); ok {
			v.Blocks = append(v.Blocks, b)
		}
	case keys.Drain:
		v.Drains[key.ID] = decodeRestriction(kv.Value, v.Shards, kv.ModRevision)
	case keys.Cordon:
		v.Cordons[key.ID] = decodeRestriction(kv.Value, v.Shards, kv.ModRevision)
	case keys.Weight:
		var w WeightOrder
		if w, ok = decodeWeightOrder(kv.Value, v.Shards, kv.ModRevision); ok {
			v.Weights[key.ID] = w
		}
	case keys.Reservation:
		v.Reservations[key.ID] = decodeReservation(kv.Value, v.Shards)
	case keys.Prepared:
		var revision int64
		if revision, ok = decodePrepared(kv.Value); ok {
			v.Prepared[key.ID] = revision
		}
	case keys.Decline:
		declines[key.ID], ok = decodeDecline(kv)
	case keys.Pin:
		var p Pin
		if p, ok = decodePin(kv.Value, kv.ModRevision); ok && p.Member != "" && key.Number < v.Shards {
			v.Pins[key.Number] = p
		}
	case keys.Exception:
		var e Exception
		if e, ok = decodeException(kv.Value, kv.ModRevision); ok && key.Number < v.Shards {
			v.Exceptions[key.Number] = e
		}
	case keys.Move:
		var m Move
		if m, ok = decodeMove(kv.Value, kv.ModRevision); ok {
			v.Moves[key.ID] = m
		}
	case keys.Schema:
		v.Schema, ok = decodeSchema(kv.Value)
	case keys.Placement:
		v.table, ok = decodePlacement(kv.Value)
	case keys.Coordinator: // whatever its value, the office is not free while the key exists
		v.Coordinator = Coordinator{CreateRevision: kv.CreateRevision, Lease: kv.Lease}
		if ok = keys.CheckID(string(kv.Value)) == nil; ok {
			v.Coordinator.ID = string(kv.Value)
		}
	default:
		ok = false
	}
	return ok
}

// decodePlacement reads {"shard":"member", …}.
func decodePlacement(value []byte) (map[int]string, bool) {
	var byName map[string]string
	if json.Unmarshal(value, &byName) != nil {
		return nil, false
	}
	placement := make(map[int]string, len(byName))
	for name, member := range byName {
		n, ok := shardNumber(name)
		if !ok {
			return nil, false
		}
		placement[n] = member
	}
	return placement, true
}

// weigh decides whether drains are in force, and whether unreadiness is. Drains come first: they are ignored where
// every member has one that could take shards, whether it is ready or not. Of the members that are left, the share that
// MinReady asks for must be ready; otherwise the unready ones count as ready. As that share is above 0, somebody is
// eligible wherever there is an active or unready member that has not the weight 0: one that has cannot take shards.
func (v *View) weigh() {
	of := func(counts func(id string) bool) (allDrained, forced bool) {
		all, undrained := 0, 0
		for id, m := range v.Members {
			if m.HasJoined() && counts(id) {
				all++
				if !v.Ordered(id) {
					undrained++
				}
				forced = forced || v.Drains[id].Force
			}
		}
		return all > 0 && undrained == 0, forced
	}
	var forced bool
	v.allDrained, forced = of(v.weighs)
	// Members that are expected back count as ready, so that the drains of all others, and their unreadiness, stay in
	// force: otherwise shards would move that wait for these members.
	v.ignored = v.allDrained && !forced && v.countAwaited(false) == 0
	v.unreadyIgnored = v.tooFewReady(v.ignored, v.countAwaited(v.ignored), v.weighs)
	v.olderAllDrained, _ = of(everybody)
	v.olderUnreadyIgnored = v.tooFewReady(v.olderAllDrained, 0, everybody)
}

// weighs says whether a member has a weight above 0.
func (v *View) weighs(id string) bool { return v.WeightOf(id) > 0 }

// everybody is true of each member: members of Schema 1 know no weight of 0.
func everybody(string) bool { return true }

// countAwaited returns how many members are expected back: those that are drained, too, or only the others.
func (v *View) countAwaited(drained bool) (n int) {
	for id := range v.Reservations {
		if (drained || !v.Ordered(id)) && v.awaited(id) {
			n++
		}
	}
	return n
}

// tooFewReady says whether too few of the members that count are ready for unreadiness to count. ignored says whether
// drains are ignored; so many members are expected back.
func (v *View) tooFewReady(ignored bool, awaited int, counts func(id string) bool) bool {
	ready, of := v.readiness(ignored, counts)
	ready, of = ready+awaited, of+awaited
	return ready < of && float64(ready)/float64(of) < v.minReady()
}

// HasJoined says whether a member has joined and does not leave: it takes shards, as far as its own state is concerned,
// or will when it is ready again.
func (r Record) HasJoined() bool { return r.State == Active || r.State == Unready }

// minReady returns the greatest share that an unready member's key names. All members name the same one, unless their
// configs differ; the greatest one leaves nobody overloaded.
func (v *View) minReady() float64 {
	share := 0.0
	for _, m := range v.Members {
		if m.State == Unready {
			share = max(share, m.MinReady)
			if m.MinReady == 0 {
				share = max(share, DefaultMinReady)
			}
		}
	}
	return share
}

// Readiness says how many of the members that count are ready. Those count that are active or unready, have not the
// weight 0, and are not drained (or drained in vain, because every one of them is).
func (v *View) Readiness() (ready, of int) { return v.readiness(v.ignored, v.weighs) }

func (v *View) readiness(drainsIgnored bool, counts func(id string) bool) (ready, of int) {
	for id, m := range v.Members {
		if !m.HasJoined() || !counts(id) || v.Ordered(id) && !drainsIgnored {
			continue
		}
		of++
		if m.State == Active {
			ready++
		}
	}
	return ready, of
}

// Alone says whether no other member owns shards now, or could own some once it is active, ready or undrained. Where
// all are drained by force, each of them is alone: nobody is meant to take what they release.
func (v *View) Alone(member string) bool {
	if v.allDrained && !v.ignored {
		return true
	}
	for id, m := range v.Members {
		if id != member && (m.HasJoined() || m.State == Joining) {
			return false
		}
	}
	return true
}

// Owner returns the id of the member that a shard belongs to. It is empty if no member is active, or if there is no
// such shard.
func (v *View) Owner(n int) string {
	if n < 0 || n >= len(v.owners) {
		return ""
	}
	return v.owners[n]
}

// OwnerOf returns the shard of a resource, and the id of the member that the resource belongs to: the owner of the
// shard, unless the resource was moved. The id is empty if no member is active.
func (v *View) OwnerOf(resource string) (shardNumber int, member string) {
	n := shard.Of(resource, v.Shards)
	if to, moved := v.movedTo(resource); moved {
		return n, to
	}
	return n, v.Owner(n)
}

// Owned says for each shard whether that member owns it. The slice is the caller's.
func (v *View) Owned(member string) []bool {
	owned := make([]bool, len(v.owners))
	for n, owner := range v.owners {
		owned[n] = owner == member && owner != ""
	}
	return owned
}

// Owners returns the owner of each shard; the owner is empty if no member is active. The slice is the caller's.
func (v *View) Owners() []string { return slices.Clone(v.owners) }

// DrainsIgnored says whether drains are ignored because every active or unready member has one, or the weight 0.
func (v *View) DrainsIgnored() bool { return v.ignored }

// UnreadyIgnored says whether unreadiness is ignored because too few members are ready: a smaller share than the
// greatest MinReady of the unready members (see Readiness). A dependency that fails for most of the members must not
// pile everything on the last one that has not noticed yet.
func (v *View) UnreadyIgnored() bool { return v.unreadyIgnored }

// Ordered says whether a drain of that member is ordered. It may be ignored, and the member may be gone.
func (v *View) Ordered(id string) bool {
	_, ordered := v.Drains[id]
	return ordered
}

// LastToTake says whether that member is the last one that can take shards: it is active, joining or unready, and every
// other member is leaving, has a drain or the weight 0, or is unready. A drain of it would be ignored, or would give
// everything to members that cannot work. Where the member itself is unready, another unready one can take as much as
// it can.
func (v *View) LastToTake(id string) bool {
	m, live := v.Members[id]
	if !live || m.State == Leaving {
		return false
	}
	for other, o := range v.Members {
		can := o.State == Active || o.State == Joining || o.State == Unready && m.State == Unready
		if other != id && can && !v.Ordered(other) && v.WeightOf(other) > 0 {
			return false
		}
	}
	return true
}

// Known says whether any key names that member: its own key, that of a slot, a reservation or the coordinator, or an
// order that is about this member.
func (v *View) Known(id string) bool {
	_, live := v.Members[id]
	_, reserved := v.Reservations[id]
	_, cordoned := v.Cordons[id]
	_, weighed := v.Weights[id]
	return live || reserved || cordoned || weighed || v.Ordered(id) || v.HasBeenHere(id) || v.Coordinator.ID == id
}

// HasItsSlots says whether every slot and block that the member's key lists is reserved for it. One that is not gives
// it no shards: a member whose slot keys somebody has deleted would never own a shard again.
func (v *View) HasItsSlots(id string) bool {
	for _, s := range v.Members[id].Slots {
		if s >= len(v.Slots) || v.Slots[s] != id {
			return false
		}
	}
	for _, from := range v.Members[id].Blocks {
		if !slices.ContainsFunc(v.Blocks, func(b shard.Block) bool { return b.From == from && b.Member == id }) {
			return false
		}
	}
	return true
}

// StateOf is a member's state as an operator sees it: Draining if a drain of an active or unready member is in force;
// Active if the member is unready and that is ignored; otherwise the state in the member's key. It is empty if there is
// no such member.
func (v *View) StateOf(id string) State {
	m := v.Members[id]
	switch {
	case m.HasJoined() && v.Ordered(id) && !v.ignored:
		return Draining
	case m.State == Unready && v.unreadyIgnored:
		return Active
	}
	return m.State
}

// SourceWanted says whether another member has a source, and is active or unready. A member without a source should
// leave the coordinator's office to it: a source can be asked whether or not the handler can work.
func (v *View) SourceWanted(id string) bool {
	for other, m := range v.Members {
		if other != id && m.Source && m.HasJoined() {
			return true
		}
	}
	return false
}

// SameMembers says whether two views have the same members in the same states, and the same owners of shards. Other
// parts may differ, such as the coordinator.
func (v *View) SameMembers(w *View) bool {
	return maps.EqualFunc(v.Members, w.Members, func(a, b Member) bool {
		return a.CreateRevision == b.CreateRevision && a.State == b.State
	}) && slices.Equal(v.owners, w.owners)
}
