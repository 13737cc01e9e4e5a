package placement_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// haunted is a group of three members, and of many that have been there once.
func haunted(t *testing.T) *group {
	t.Helper()
	g := newGroup(rules(), even(1000))
	for i := range 40 {
		g.put(layout.Slot(i), fmt.Sprint("job-", i))
	}
	g.put(layout.Block(40), membership.EncodeBlock(shard.Block{Slots: 64, Used: 50, Member: "job-block"}))
	for _, id := range []string{"a", "b", "c"} {
		g.join(t, id, "1")
	}
	return g
}

// ghosts lists for whom slots are reserved who is not there.
func (g *group) ghosts() (ids []string) {
	v := g.view()
	for _, id := range v.Slots {
		if _, live := v.Members[id]; !live && id != "" {
			ids = append(ids, id)
		}
	}
	for _, b := range v.Blocks {
		if b.Member != "" {
			ids = append(ids, b.Member)
		}
	}
	return ids
}

func TestSlotsOfMembersThatNeverComeBackAreFreedAndNothingMoves(t *testing.T) {
	g := haunted(t)
	g.rest(t, 55*time.Minute)
	if n := len(g.ghosts()); n != 38 {
		t.Fatalf("slots of %d members that are gone are left after 55 minutes", n)
	}
	before, moved, length := g.view().Owners(), g.moves, g.view().Reserved().Length()
	g.rest(t, 10*time.Minute)
	if ids := g.ghosts(); len(ids) > 0 {
		t.Errorf("slots are still reserved for %v", ids)
	}
	v := g.view()
	if !slices.Equal(v.Owners(), before) || g.moves != moved || v.Reserved().Length() != length {
		t.Errorf("shards moved, or a ring of %d slots became one of %d", length, v.Reserved().Length())
	}
}

func TestAMemberThatComesBackInTimeKeepsItsSlots(t *testing.T) {
	g := haunted(t)
	g.put(layout.Reservation("job-7"), membership.Reservation{}.Encode())
	g.put(layout.Cordon("job-8"), "") // an order does not keep anything
	slots := g.view().Members["b"].Slots
	g.die(t, "b")
	g.rest(t, 50*time.Minute)
	g.carryOut(t) // so that the coordinator does not look while b is back
	g.join(t, "b", "1")
	g.die(t, "b")
	g.rest(t, 50*time.Minute)
	if ids := g.ghosts(); !slices.Equal(ids, []string{"b", "job-7"}) && !slices.Equal(ids, []string{"job-7", "b"}) {
		t.Errorf("slots are reserved for %v", ids)
	}
	g.join(t, "b", "1")
	if got := g.view().Members["b"].Slots; !slices.Equal(got, slots) {
		t.Errorf("b has the slots %v, and had %v", got, slots)
	}
}

// A new coordinator knows nobody's absence: it counts from its own beginning.
func TestACoordinatorCountsAbsenceByItsOwnClock(t *testing.T) {
	g := haunted(t)
	g.rest(t, 50*time.Minute)
	g.elect()
	g.rest(t, 50*time.Minute)
	if n := len(g.ghosts()); n != 38 {
		t.Errorf("slots of %d members that are gone are left", n)
	}
	g.rest(t, 15*time.Minute)
	if ids := g.ghosts(); len(ids) > 0 {
		t.Errorf("slots are still reserved for %v", ids)
	}
}

// The coordinator looks for members that are gone once a minute at most, and not at all while nothing happens.
func TestTheSlotsOfAGhostAreFreedThoughNothingElseHappens(t *testing.T) {
	for _, quiet := range []time.Duration{time.Second, 20 * time.Second, time.Minute, 5 * time.Minute, 0} {
		r := rules()
		r.Quiet, r.Off = quiet, quiet == 0
		g := newGroup(r, even(1000))
		g.join(t, "a", "1")
		g.join(t, "b", "1")
		g.rest(t, time.Hour)
		g.idle(t, time.Hour)
		g.carryOut(t) // somebody has said something just before
		g.now += time.Second
		g.die(t, "b")
		g.idle(t, 3*time.Hour)
		for n, id := range g.view().Slots {
			if id == "b" {
				t.Errorf("quiet %v: slot %d is reserved for a member that has been gone for 3 h", quiet, n)
			}
		}
	}
}
