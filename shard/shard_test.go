package shard_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/distributed-resource-manager/drm/shard"
)

func everybody(string) bool { return true }

func nobody(string) bool { return false }

func TestSlotOfAnEmptyRing(t *testing.T) {
	for _, slots := range [][]string{nil, {}, {""}, {"", "", ""}} {
		ring := shard.NewRing(slots)
		if got := ring.Slot(7); got != -1 {
			t.Errorf("%q: Slot = %d, want -1", slots, got)
		}
		if got := ring.Owner(7); got != "" {
			t.Errorf("%q: Owner = %q, want nobody", slots, got)
		}
	}
}

func TestRingKeepsItsOwnSlots(t *testing.T) {
	slots := []string{"a", "a"}
	ring := shard.NewRing(slots)
	slots[0], slots[1] = "b", ""
	for s := range 64 {
		if got := ring.Owner(s); got != "a" {
			t.Fatalf("Owner(%d) = %q after the caller changed its slice", s, got)
		}
	}
}

func TestBadNumbersPanic(t *testing.T) {
	for name, f := range map[string]func(){
		"no shards":       func() { shard.Of("a", 0) },
		"negative shards": func() { shard.Of("a", -1) },
		"negative shard":  func() { shard.NewRing([]string{"a"}).Slot(-1) },
		"loads missing": func() {
			shard.NewPlanner(shard.Problem{Home: []string{"a"}, Owner: []string{"a"}})
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// Every shard must probe different hashes: a cycle would be a shard that tries the same few slots again and again. With
// one live slot among many, nearly all shards run through all probes, and the live slot gets every one of them.
func TestEveryShardFindsTheOnlyLiveSlot(t *testing.T) {
	for _, n := range []int{1, 2, 3, 64, 1000, 99_999} {
		for _, at := range []int{0, n / 2, n - 1} {
			ring := shard.NewRing(slotsWhere(n, func(i int) bool { return i == at }))
			for s := range 4096 {
				if got := ring.Slot(s); got != at {
					t.Fatalf("%d slots: Slot(%d) = %d, want %d", n, s, got, at)
				}
			}
		}
	}
}

func TestLoadIsSpreadByWeight(t *testing.T) {
	const shards = 4096
	for _, c := range []struct {
		name    string
		members int
		slots   int // how many slots there are; those beyond the members' slots are dead
		weight  func(member int) int
		most    float64 // the highest load, relative to the fair share
	}{
		{"ten", 10, 10, func(int) int { return 1 }, 1.15},
		{"hundred", 100, 100, func(int) int { return 1 }, 1.7},
		{"ten where a thousand were", 10, 1000, func(int) int { return 1 }, 1.2},
		{"ten, half of them of weight 4", 10, 25, func(m int) int { return 1 + 3*(m%2) }, 1.2},
	} {
		slots := make([]string, c.slots)
		weights, total, at := map[string]int{}, 0, 0
		for m := range c.members {
			id := fmt.Sprint("m", m)
			weights[id] = c.weight(m)
			total += c.weight(m)
			for range c.weight(m) {
				slots[at] = id
				at++
			}
		}
		ring, load := shard.NewRing(slots), map[string]int{}
		for s := range shards {
			load[ring.Owner(s)]++
		}
		for id, w := range weights {
			fair := float64(shards) * float64(w) / float64(total)
			if got := float64(load[id]) / fair; got > c.most || got < 0.4 {
				t.Errorf("%s: member %s of weight %d has %.2f of its fair share", c.name, id, w, got)
			}
		}
	}
}

// letters makes an assignment, or reservations, of one letter each; a dot stands for nobody.
func letters(s string) []string {
	out := make([]string, len(s))
	for i, c := range s {
		if c != '.' {
			out[i] = string(c)
		}
	}
	return out
}

func TestReserve(t *testing.T) {
	onlyBandC := func(m string) bool { return m == "b" || m == "c" }
	for _, c := range []struct {
		name     string
		reserved string
		live     func(string) bool
		weight   int
		want     []int
	}{
		{"the first of all", "", everybody, 1, []int{0}},
		{"a new one at the end", "bcd", everybody, 1, []int{3}},
		{"several at the end", "b", everybody, 3, []int{1, 2, 3}},
		{"its own", "bac", everybody, 1, []int{1}},
		{"its own before a lower free one", ".bac", everybody, 1, []int{2}},
		{"its own before a dead one's", "dba", onlyBandC, 1, []int{2}},
		{"the lowest free one", "b.c.", everybody, 1, []int{1}},
		{"the lowest dead one's", "bdc", onlyBandC, 1, []int{1}},
		{"free or dead, whichever is lower", "bd.", onlyBandC, 1, []int{1}},
		{"a heavier one keeps its own and adds", "bac.d", onlyBandC, 4, []int{1, 3, 4, 5}},
		{"a lighter one keeps its lowest", "aabaa", everybody, 2, []int{0, 1}},
		{"all dead", "xyz", nobody, 2, []int{0, 1}},
		{"no weight counts as 1", "b", everybody, 0, []int{1}},
	} {
		if got := shard.Reserve(letters(c.reserved), c.live, "a", c.weight); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
