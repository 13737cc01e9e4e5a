package shard_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/shard"
)

// Those that do not count for a shard leave it where it would be if their slots were not live.
func TestOwnerWithoutSomeIsTheOwnerOfARingWithoutThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slots := make([]string, rapid.IntRange(0, 200).Draw(t, "slots"))
		members := rapid.IntRange(1, 20).Draw(t, "members")
		for i := range slots {
			if n := rapid.IntRange(0, members).Draw(t, "member"); n > 0 {
				slots[i] = fmt.Sprint("m", n)
			}
		}
		without := map[string]bool{}
		for n := range members + 1 {
			without[fmt.Sprint("m", n)] = rapid.Bool().Draw(t, "without")
		}
		ring, left := shard.NewRing(slots), slices.Clone(slots)
		for i, member := range left {
			if without[member] {
				left[i] = ""
			}
		}
		rest := shard.NewRing(left)
		for s := range 100 {
			got := ring.OwnerWithout(s, func(member string) bool { return without[member] })
			if want := rest.Owner(s); got != want {
				t.Fatalf("shard %d is %q's, want %q's", s, got, want)
			}
		}
	})
}
