package spread

import (
	"maps"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// group is what lies below group/ in etcd. It changes by the rules of package membership, but without an etcd.
type group struct {
	layout   keys.Layout
	shards   int
	revision int64
	kvs      map[string]*mvccpb.KeyValue
	reserved shard.Reserved
	weight   map[string]int  // has every member that ever was
	here     map[string]bool // members that have a key
	drained  map[string]bool
	placed   map[int]*mvccpb.KeyValue // the exceptions, kept apart, since there is also a view without them
	places   map[int]string           // the members that the exceptions name
}

func newGroup(shards int) *group {
	return &group{
		layout: keys.New("/drm", "spread"), shards: shards, kvs: map[string]*mvccpb.KeyValue{},
		weight: map[string]int{}, here: map[string]bool{}, drained: map[string]bool{},
		placed: map[int]*mvccpb.KeyValue{}, places: map[int]string{},
		reserved: shard.Reserved{LastSlot: keys.MaxSlots},
	}
}

func (g *group) keyValue(key string, value []byte) *mvccpb.KeyValue {
	g.revision++
	return &mvccpb.KeyValue{Key: []byte(key), Value: value, CreateRevision: g.revision, ModRevision: g.revision}
}

func (g *group) put(key string, value []byte) { g.kvs[key] = g.keyValue(key, value) }

// join makes a member active, as membership.Registrar does: with the slots of its earlier life, or else the lowest
// slots whose owners are not there, or else new ones. Slots of an earlier life that it does not need become free, and
// stay.
func (g *group) join(id string, weight int) {
	h := g.reserved.Reserve(func(m string) bool { return g.here[m] }, id, weight)
	g.hold(id, h)
	record := membership.Record{
		State: membership.Active, Weight: weight, Slots: h.Slots, Schema: membership.Schema,
	}
	for _, b := range h.Blocks {
		record.Blocks, record.Held = append(record.Blocks, b.From), h.Weight()
	}
	g.put(g.layout.Member(id), []byte(record.Encode()))
	g.here[id], g.weight[id] = true, weight
}

// hold writes down what a member has reserved, and frees what it had besides.
func (g *group) hold(id string, h shard.Holding) {
	reserve := func(n int, id string) {
		for len(g.reserved.Slots) <= n {
			g.reserved.Slots = append(g.reserved.Slots, "")
		}
		g.reserved.Slots[n] = id
		g.put(g.layout.Slot(n), []byte(id))
	}
	for _, n := range h.Slots {
		if n >= len(g.reserved.Slots) || g.reserved.Slots[n] != id {
			reserve(n, id)
		}
	}
	for n, m := range g.reserved.Slots {
		if m == id && !slices.Contains(h.Slots, n) {
			reserve(n, "")
		}
	}
	blocks := map[int]shard.Block{}
	for _, b := range g.reserved.Blocks {
		if b.Member == id {
			b.Member, b.Used = "", 0
			g.put(g.layout.Block(b.From), []byte(membership.EncodeBlock(b)))
		}
		blocks[b.From] = b
	}
	for _, b := range h.Blocks {
		blocks[b.From] = b
		g.put(g.layout.Block(b.From), []byte(membership.EncodeBlock(b)))
	}
	g.reserved.Blocks = g.reserved.Blocks[:0]
	for _, from := range slices.Sorted(maps.Keys(blocks)) {
		g.reserved.Blocks = append(g.reserved.Blocks, blocks[from])
	}
}

// leave removes a member's key; its slots stay reserved.
func (g *group) leave(id string) {
	delete(g.kvs, g.layout.Member(id))
	delete(g.here, id)
}

func (g *group) drain(id string) {
	g.put(g.layout.Drain(id), nil)
	g.drained[id] = true
}

func (g *group) undrain(id string) {
	delete(g.kvs, g.layout.Drain(id))
	delete(g.drained, id)
}

// except publishes an exception to the ring for a shard; one for the same member stays as it is. It returns how much
// the event takes that each member is sent, 0 if nothing had to be written.
func (g *group) except(n int, member string) (bytes int) {
	if g.placed[n] != nil && g.places[n] == member {
		return 0
	}
	value := membership.Exception{
		Member: member, Why: membership.WhyBound, By: coordinator, Since: time.Unix(1_800_000_000, 0).UTC(),
	}.Encode()
	g.placed[n], g.places[n] = g.keyValue(g.layout.Exception(n), []byte(value)), member
	return proto.Size(&mvccpb.Event{Kv: g.placed[n]})
}

// accept takes the exception for a shard back, if there is one, and returns how much the event takes.
func (g *group) accept(n int) (bytes int) {
	if g.placed[n] == nil {
		return 0
	}
	delete(g.placed, n)
	g.revision++
	gone := &mvccpb.KeyValue{Key: []byte(g.layout.Exception(n)), ModRevision: g.revision}
	return proto.Size(&mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: gone})
}

// coordinator is the id of the member that places shards. It does not matter which one it is.
const coordinator = "member-00000"

// view is the view that each member has of the group after each change.
func (g *group) view(placement bool) *membership.View {
	all := make([]*mvccpb.KeyValue, 0, len(g.kvs)+len(g.placed))
	for _, kv := range g.kvs {
		all = append(all, kv)
	}
	if placement {
		for _, kv := range g.placed {
			all = append(all, kv)
		}
	}
	return membership.NewView(g.layout.Root(), g.shards, all, g.revision)
}

// eligible maps the members that may own shards to their weights.
func (g *group) eligible() map[string]int {
	set := make(map[string]int, len(g.here))
	for id := range g.here {
		if !g.drained[id] {
			set[id] = g.weight[id]
		}
	}
	return set
}
