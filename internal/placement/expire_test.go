package placement_test

import (
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/membership"
)

// A new leader of etcd lets leases begin anew, so an order may outlive its time.
func TestOrdersThatShouldHaveEndedAreEnded(t *testing.T) {
	t.Parallel()
	g := newGroup(rules(), make([]int64, shards))
	for _, id := range []string{"a", "b", "c", "d"} {
		g.join(t, id, "1")
	}
	until := time.Unix(0, 0).Add(g.now + time.Hour)
	g.put(layout.Drain("a"), membership.Restriction{Until: until}.Encode())
	g.put(layout.Drain("b"), membership.Restriction{}.Encode())
	g.put(layout.Cordon("c"), membership.Restriction{Until: until}.Encode())
	g.put(layout.Cordon("d"), membership.Restriction{Until: until.Add(time.Hour)}.Encode())
	g.see()
	g.rest(t, time.Hour+4*time.Minute)
	if v := g.view(); len(v.Drains) != 2 || len(v.Cordons) != 2 {
		t.Errorf("too early: drains %v, cordons %v", v.Drains, v.Cordons)
	}
	g.rest(t, 2*time.Minute)
	v := g.view()
	if _, endless := v.Drains["b"]; len(v.Drains) != 1 || !endless {
		t.Errorf("drains %v, want that of b only", v.Drains)
	}
	if _, later := v.Cordons["d"]; len(v.Cordons) != 1 || !later {
		t.Errorf("cordons %v, want that of d only", v.Cordons)
	}
}

// Whoever waits for nothing else plans again when the next order should have ended.
func TestThePlannerWakesUpForTheEndOfAnOrder(t *testing.T) {
	t.Parallel()
	r := rules()
	r.Off = true
	g := newGroup(r, make([]int64, shards))
	g.join(t, "a", "1")
	g.join(t, "b", "1")
	g.put(layout.Cordon("a"), membership.Restriction{Until: time.Unix(0, 0).Add(g.now + time.Hour)}.Encode())
	g.see()
	if next := g.carryOut(t); next != g.now+time.Hour+5*time.Minute {
		t.Errorf("plans again after %v", next-g.now)
	}
}
