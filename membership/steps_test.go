package membership_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// narrowly makes a group on an etcd that allows that many operations in a transaction.
func narrowly(t *testing.T, limit uint) *group {
	t.Helper()
	usual := client
	client = embeddedtest.Client(t,
		embeddedtest.ServerOf(t, func(c *embedded.Config) { c.MaxTxnOps = limit }).Endpoint())
	t.Cleanup(func() { client = usual })
	return newGroup(t)
}

func TestSlotsAreReservedOneByOneWhereEtcdTakesFewOperations(t *testing.T) {
	for _, limit := range []uint{2, 3, 40} {
		g := narrowly(t, limit)
		a := g.join("a", 3)
		g.wantSlots(a, 0, 1, 2)
		lease := g.grant(600)
		joining := membership.Record{
			State:   membership.Joining,
			Weight:  shard.Single,
			Started: active(1).Started,
		}
		reg, err := g.registrar("b").Register(t.Context(), joining, lease)
		if err != nil {
			t.Fatal(err)
		}
		if reg, err = g.registrar("b").Activate(t.Context(), reg); err != nil ||
			len(reg.Record.Slots) != shard.Single || reg.Record.Slots[0] != 3 {
			t.Fatalf("limit %d: %+v, %v", limit, reg, err)
		}
		// The slot of a member that is gone is taken over; slots that a member had and no longer needs are free.
		g.revoke(a.Lease)
		c := g.join("c", 1)
		g.revoke(reg.Lease)
		g.wantSlots(g.join("b", 1), 3)
		v := g.view()
		want := append([]string{"c", "a", "a", "b"}, make([]string, shard.Single-1)...)
		if limit < 3 { // that its holder is gone for good could not be compared in the same transaction
			want = append([]string{"a", "a", "a", "b"}, append(make([]string, shard.Single-1), "c")...)
		}
		if !slices.Equal(v.Slots, want) {
			t.Errorf("limit %d: c has %v, reserved: %q", limit, c.Record.Slots, v.Slots)
		}
		for _, id := range []string{"b", "c"} {
			if m := v.Members[id]; m.State != membership.Active || !v.HasItsSlots(id) {
				t.Errorf("limit %d: %s is %+v", limit, id, m)
			}
		}
	}
}

func TestMembersThatReserveOneByOneAtTheSameTimeShareNoSlot(t *testing.T) {
	g := narrowly(t, 2)
	const members, weight = 5, 6
	var all sync.WaitGroup
	leases := make([]clientv3.LeaseID, members)
	for i := range leases {
		leases[i] = g.grant(600)
	}
	for i := range members {
		all.Go(func() {
			if _, err := g.registrar(fmt.Sprint(i)).Register(t.Context(), active(weight), leases[i]); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	v := g.view()
	for i := range members {
		if m := v.Members[fmt.Sprint(i)]; m.State != membership.Active || len(m.Slots) != weight ||
			!v.HasItsSlots(fmt.Sprint(i)) {
			t.Errorf("%d: %+v", i, m)
		}
	}
}

func TestTheLeastLimitOfOperationsIsNamed(t *testing.T) {
	g := narrowly(t, 1)
	_, err := g.registrar("a").Register(t.Context(), active(1), g.grant(600))
	if err == nil || !strings.Contains(err.Error(), "--max-txn-ops is too low: this needs 2") {
		t.Errorf("Register: %v", err)
	}
}

// Where slots are reserved one by one, each step asks whether the former holder is gone, and not expected back.
func TestAStepTakesNothingFromWhoHasComeBack(t *testing.T) {
	for _, weight := range []int{1, 40} {
		for _, stops := range []bool{false, true} {
			g := narrowly(t, 3)
			a := g.join("a", weight)
			g.join("b", 1)
			g.revoke(a.Lease)
			r, c := g.counted("c")
			joining := active(weight)
			joining.State = membership.Joining
			reg, err := r.Register(t.Context(), joining, g.grant(600))
			if err != nil {
				t.Fatal(err)
			}
			c.before = func() { // after it has looked which slots it can take
				again := g.join("a", weight)
				if stops {
					_, err := g.registrar("a").Leave(t.Context(), again, membership.Reservation{}, g.grant(600), 0)
					if err != nil {
						t.Error(err)
					}
					g.revoke(again.Lease)
				}
			}
			if _, err := r.Activate(t.Context(), reg); err != nil {
				t.Fatal(err)
			}
			v := g.view()
			if !v.HasItsSlots("a") || !v.HasBeenHere("a") || !v.HasItsSlots("c") || v.Members["c"].Holds() != weight {
				t.Errorf("weight %d, stops: %v: slots %q, blocks %+v", weight, stops, v.Slots, v.Blocks)
			}
		}
	}
}

// A member whose key lists a slot that is reserved for it no longer registers anew, and so loses all that it handles.
func TestNoStepTakesASlotThatTheMembersKeyLists(t *testing.T) {
	g := narrowly(t, 3)
	g.join("a", 1)
	reg := g.join("b", 1)
	before := g.view().Revision
	var err error
	for _, weight := range []int{5, 2, 100, 3, 300, 1, 0, 40} {
		if reg, err = g.registrar("b").Weigh(t.Context(), reg, weight); err != nil {
			t.Fatal(err)
		}
		after := g.view()
		if free := g.reservedBesides(after, "b"); weight > 0 && free > 0 {
			t.Errorf("weight %d: %d slots and blocks stay reserved", weight, free)
		}
		for ; before < after.Revision; before++ {
			resp, err := client.Get(t.Context(), g.layout.Group(), clientv3.WithPrefix(), clientv3.WithRev(before))
			if err != nil {
				t.Fatal(err)
			}
			if v := g.members.View(resp.Kvs, before); !v.HasItsSlots("b") {
				t.Errorf("weight %d: its key says %+v, reserved are %q and %+v",
					weight, v.Members["b"], v.Slots, v.Blocks)
			}
		}
	}
}

// reservedBesides returns how many slots and blocks are reserved for a member that its key does not list.
func (g *group) reservedBesides(v *membership.View, id string) (n int) {
	for slot, of := range v.Slots {
		if of == id && !slices.Contains(v.Members[id].Slots, slot) {
			n++
		}
	}
	for _, b := range v.Blocks {
		if b.Member == id && !slices.Contains(v.Members[id].Blocks, b.From) {
			n++
		}
	}
	return n
}
