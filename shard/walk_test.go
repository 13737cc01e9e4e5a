package shard_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/shard"
)

// Walk ends where OwnerWithout does, whoever counts.
func TestAWalkEndsAtTheOwner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyReserved(t)
		ring := shard.NewBlockRing(r.Slots, r.Blocks)
		without := map[string]bool{}
		for _, m := range []string{"m0", "m1", "m2", "m3", "m4"} {
			without[m] = rapid.Bool().Draw(t, m)
		}
		for n := range 40 {
			want := ring.OwnerWithout(n, func(m string) bool { return without[m] })
			tries := ring.Walk(n, func(m string) bool { return !without[m] })
			got := ""
			for i, try := range tries {
				accepted := try.Member != "" && !without[try.Member]
				if accepted != (i == len(tries)-1 && want != "") {
					t.Fatalf("shard %d: try %d of %+v", n, i, tries)
				}
				if accepted {
					got = try.Member
				}
			}
			if got != want {
				t.Fatalf("shard %d: the walk ends at %q, and it belongs to %q: %+v", n, got, want, tries)
			}
		}
	})
}

func TestAReservedSlotIsOfItsMember(t *testing.T) {
	r := shard.Reserved{
		Slots:  []string{"a", "", "", "c"},
		Blocks: []shard.Block{{From: 2, Slots: 4, Used: 3, Member: "b"}},
	}
	for slot, want := range []string{"a", "", "b", "c", "b", "", ""} {
		if got := r.Of(slot); got != want {
			t.Errorf("slot %d is %q's, want %q", slot, got, want)
		}
	}
}
