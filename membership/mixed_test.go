package membership_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// schema1 finds the owners of shards as the last program of schema 1 did. It takes from a view what has the same
// meaning in both: which members, slots, drains and declines there are.
type schema1 struct {
	*membership.View
	ignored, unreadyIgnored bool
	pins, table             map[int]string
	owners                  []string
}

func newSchema1(p picture, v *membership.View) *schema1 {
	s := &schema1{View: v, pins: map[int]string{}, table: map[int]string{}}
	for key, value := range p {
		if n, ok := strings.CutPrefix(key, layout.Pins()); ok {
			at, _ := strconv.ParseInt(n, 16, 32)
			s.pins[int(at)] = value
		}
	}
	var table map[string]string
	if json.Unmarshal([]byte(p[layout.Placement()]), &table) == nil {
		for n, id := range table {
			at, _ := strconv.Atoi(n)
			s.table[at] = id
		}
	}
	all, undrained := 0, 0
	for id, m := range v.Members {
		if m.HasJoined() {
			all++
			if !v.Ordered(id) {
				undrained++
			}
		}
	}
	s.ignored = all > 0 && undrained == 0
	ready, of, share := 0, 0, 0.0
	for id, m := range v.Members {
		if m.State == membership.Unready {
			share = max(share, m.MinReady)
		}
		if !m.HasJoined() || v.Ordered(id) && !s.ignored {
			continue
		}
		of++
		if m.State == membership.Active {
			ready++
		}
	}
	s.unreadyIgnored = ready < of && float64(ready)/float64(of) < share
	s.assign()
	return s
}

func (s *schema1) eligible(id string) bool {
	m := s.Members[id]
	return (m.State == membership.Active || m.State == membership.Unready && s.unreadyIgnored) &&
		(s.ignored || !s.Ordered(id))
}

func (s *schema1) assign() {
	slots := make([]string, len(s.Slots))
	for id, m := range s.Members {
		for _, n := range m.Slots {
			if s.eligible(id) && n < len(slots) && s.Slots[n] == id {
				slots[n] = id
			}
		}
	}
	ring := shard.NewRing(slots)
	s.owners = make([]string, s.Shards)
	for n := range s.owners {
		s.owners[n] = ring.Owner(n)
		for _, first := range []string{s.table[n], s.pins[n]} {
			if first != "" && s.eligible(first) {
				s.owners[n] = first
			}
		}
	}
	for n, owner := range s.owners {
		if owner == "" || !s.Declines(owner, n) {
			continue
		}
		next := ring.OwnerWithout(n, func(id string) bool { return s.Declines(id, n) })
		for _, other := range []string{s.table[n], s.pins[n]} {
			if s.eligible(other) && !s.Declines(other, n) {
				next = other
			}
		}
		if next != "" {
			s.owners[n] = next
		}
	}
}

// ownerOf is View.OwnerOf of that program.
func (s *schema1) ownerOf(resource string) string {
	n := shard.Of(resource, s.Shards)
	if m, moved := s.Moves[resource]; moved && s.eligible(m.Member) && !s.Declines(m.Member, n) {
		return m.Member
	}
	return s.owners[n]
}

// share is View.Share of that program.
func (s *schema1) share(id string) (mine, all int) {
	for other, m := range s.Members {
		if s.eligible(other) || m.State == membership.Joining && (s.ignored || !s.Ordered(other)) {
			weight := min(max(m.Weight, 1), 32) // as the member's key says it to them
			all += weight
			if other == id {
				mine = weight
			}
		}
	}
	return mine, all
}

// anyMixed makes a group of members of both schemas, with orders of all kinds. harsh says that an order may leave
// shards to nobody.
func anyMixed(r *rand.Rand) (p picture, harsh bool) {
	p = picture{}
	ids := []string{"a", "b", "c", "d", "e"}[:1+r.IntN(5)]
	any := func() string { return append(ids, "gone")[r.IntN(len(ids)+1)] }
	chance := func(percent int) bool { return r.IntN(100) < percent }
	keeps := func() []bool {
		if chance(50) {
			return nil
		}
		return randomShards(r)
	}
	slot := 0
	for _, id := range ids {
		schema := 1 + r.IntN(2)
		state := []string{"active", "active", "active", "active", "unready", "joining", "leaving"}[r.IntN(7)]
		var slots []int
		for range 1 + r.IntN(3) {
			slots = append(slots, slot)
			p[layout.Slot(slot)] = id
			slot++
		}
		more, weight := "", len(slots)
		if schema == 2 && chance(40) {
			n := 1 + r.IntN(200)
			p[layout.Block(slot)] = membership.EncodeBlock(shard.Block{Slots: n, Used: 1 + r.IntN(n), Member: id})
			more = fmt.Sprintf(`"exact_weight":%d,"blocks":[%d],"held":%d,`, n+len(slots), slot, n+len(slots))
			if chance(30) { // an older member has reserved a slot in it
				p[layout.Slot(slot+r.IntN(n))] = any()
			}
			slot, weight = slot+n, min(n+len(slots), 32)
		}
		p[layout.Member(id)] = fmt.Sprintf(`{"state":%q,"weight":%d,%s"slots":%s,"schema":%d,"min_ready":%v}`,
			state, weight, more, commas(fmt.Sprint(slots)), schema, []float64{0.1, 0.5, 0.9}[r.IntN(3)])
		if chance(20) {
			p[layout.Decline(id)] = membership.Decline{Shards: randomShards(r)}.Encoded()
		}
		if chance(25) {
			p[layout.Drain(id)] = "2026-01-02T03:04:05Z"
			if chance(60) {
				d := membership.Restriction{Keeps: keeps(), Force: chance(15)}
				harsh = harsh || d.Force
				p[layout.Drain(id)] = d.Encode()
			}
		}
		if chance(20) {
			p[layout.Cordon(id)] = membership.Restriction{Keeps: keeps()}.Encode()
		}
		if chance(20) {
			w := membership.WeightOrder{Weight: r.IntN(3), Keeps: keeps()}
			harsh = harsh || w.Weight == 0
			p[layout.Weight(id)] = w.Encode()
		}
		if chance(15) {
			p[layout.Reservation(id)] = membership.Reservation{}.Encode()
		}
	}
	if chance(50) {
		p[layout.Coordinator()] = any()
	}
	for range r.IntN(20) {
		p[layout.Exception(r.IntN(shards))] = membership.Exception{Member: any(), Then: any(), Why: "bound"}.Encode()
		p[layout.Pin(r.IntN(shards))] = any()
		p[layout.Pin(r.IntN(shards))] = membership.Pin{Member: any()}.Encode()
		p[layout.Move(fmt.Sprint("r", r.IntN(200)))] = membership.Move{Member: any()}.Encode()
	}
	if chance(20) {
		p[layout.Placement()] = fmt.Sprintf(`{"3":%q,"7":%q}`, any(), any())
	}
	return p, harsh
}

func randomShards(r *rand.Rand) []bool {
	all := make([]bool, shards)
	for n := range all {
		all[n] = r.IntN(2) == 0
	}
	return all
}

// mixedView makes the view of a mixed group. Declines are on the leases of their members, as the members have them.
func (p picture) mixedView() *membership.View {
	kvs := p.kvs()
	for _, kv := range kvs {
		kv.Lease = 1
		kv.ModRevision = kv.CreateRevision
	}
	return membership.NewView(layout.Root(), shards, kvs, 7)
}

// In a group of members of both schemas, each member of schema 1 owns by the newer rules just what it owns by its own;
// so every shard has an owner that takes it for its own.
func TestMembersOfBothSchemasAgree(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		p, harsh := anyMixed(r)
		v := p.mixedView()
		old := newSchema1(p, v)
		for n := range shards {
			theirs, ours := old.owners[n], v.Owner(n)
			if theirs != ours && (v.Members[theirs].Schema == 1 || v.Members[ours].Schema == 1) {
				t.Fatalf("seed %d: shard %d is %q's by schema 1 and %q's by schema 2:\n%s",
					seed, n, theirs, ours, p.text())
			}
			if ours == "" && theirs != "" && !harsh {
				t.Fatalf("seed %d: shard %d is %q's by schema 1 and nobody's by schema 2:\n%s",
					seed, n, theirs, p.text())
			}
		}
		for id := range v.Members {
			mine, all := v.Share(id)
			if oldMine, oldAll := old.share(id); v.MixesSchemas() && (mine != oldMine || all != oldAll) {
				t.Fatalf("seed %d: %q has %d of %d by schema 2, and %d of %d by schema 1:\n%s",
					seed, id, mine, all, oldMine, oldAll, p.text())
			}
		}
		for resource := range v.Moves {
			theirs := old.ownerOf(resource)
			_, ours := v.OwnerOf(resource)
			if theirs != ours && (v.Members[theirs].Schema == 1 || v.Members[ours].Schema == 1) {
				t.Fatalf("seed %d: resource %s is %q's by schema 1 and %q's by schema 2:\n%s",
					seed, resource, theirs, ours, p.text())
			}
		}
	}
}

// text lists the keys, for people.
func (p picture) text() string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(p)) {
		fmt.Fprintf(&b, "%s %s\n", strings.TrimPrefix(key, layout.Root()), p[key])
	}
	return b.String()
}
