package shard_test

import (
	"fmt"
	"hash/fnv"
	"slices"
	"testing"

	"github.com/distributed-resource-manager/drm/shard"
)

// Members of different versions must agree on these answers. If one of these tests fails, the code is wrong, not the
// test: a group during an upgrade would handle resources twice or not at all.

func TestShardOfAnIDNeverChanges(t *testing.T) {
	for _, c := range []struct {
		id     string
		shards int
		want   int
	}{
		{"", 1024, 409},
		{"a", 1024, 603},
		{"1", 1024, 212},
		{"resource-1", 1024, 68},
		{"resource-1", 4096, 68},
		{"resource-1", 1000, 756},
		{"resource-1", 1, 0},
		{"wss://example.org/feed?symbol=BTC", 1024, 549},
		{"ключ/鍵/🔑", 1024, 660},
	} {
		if got := shard.Of(c.id, c.shards); got != c.want {
			t.Errorf("Of(%q, %d) = %d, want %d", c.id, c.shards, got, c.want)
		}
	}
}

// slotsWhere makes slots 0 to n-1, each with its own member if live says so.
func slotsWhere(n int, live func(slot int) bool) []string {
	slots := make([]string, n)
	for i := range slots {
		if live(i) {
			slots[i] = fmt.Sprintf("m%d", i)
		}
	}
	return slots
}

func TestSlotOfAShardNeverChanges(t *testing.T) {
	for _, c := range []struct {
		name  string
		slots []string
		first []int  // the slots of shards 0, 1, …
		all   uint64 // FNV-1a of the slots of shards 0 to 4095, as decimals that each end with a space
	}{
		{
			"one", slotsWhere(1, func(int) bool { return true }),
			[]int{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
			0xd06301b856d4a325,
		},
		{
			"three", slotsWhere(3, func(int) bool { return true }),
			[]int{2, 0, 0, 1, 2, 2, 0, 1, 0, 2, 2, 0, 1, 2, 1, 1},
			0x18f7597ddd57415c,
		},
		{
			"three, without the middle one", slotsWhere(3, func(i int) bool { return i != 1 }),
			[]int{2, 0, 0, 0, 2, 2, 0, 2, 0, 2, 2, 0, 0, 2, 0, 0},
			0xf1bf5f570b274205,
		},
		{
			"ten, without the last one", slotsWhere(10, func(i int) bool { return i < 9 }),
			[]int{8, 1, 0, 4, 7, 3, 5, 8, 5, 7, 5, 6, 5, 8, 7, 1},
			0x829f56e789c59500,
		},
		{
			"thousand", slotsWhere(1000, func(int) bool { return true }),
			[]int{258, 527, 19, 473, 179, 229, 460, 249, 81, 999, 163, 245, 926, 308, 331, 176},
			0x9ad9b413d9e0a077,
		},
		{
			"thousand, a third of them", slotsWhere(1000, func(i int) bool { return i%3 == 0 }),
			[]int{258, 489, 66, 774, 717, 120, 372, 249, 81, 999, 87, 708, 495, 288, 519, 399},
			0x6d214561359b9779,
		},
		{
			"thousand, ten of them", slotsWhere(1000, func(i int) bool { return i%100 == 7 }),
			[]int{207, 807, 107, 507, 607, 707, 307, 7, 807, 907, 407, 7, 107, 507, 707, 207},
			0x824bef4eb4938d26,
		},
		{
			"99,999, two of them", slotsWhere(99_999, func(i int) bool { return i == 5 || i == 77_777 }),
			[]int{5, 77777, 77777, 77777, 77777, 77777, 5, 5, 5, 77777, 77777, 5, 77777, 77777, 77777, 5},
			0xf37377ddbefe87d3,
		},
	} {
		ring := shard.NewRing(c.slots)
		sum := fnv.New64a()
		var first []int
		for s := range 4096 {
			slot := ring.Slot(s)
			if s < 16 {
				first = append(first, slot)
			}
			fmt.Fprintf(sum, "%d ", slot)
		}
		if !slices.Equal(first, c.first) || sum.Sum64() != c.all {
			t.Errorf("%s: %#v, %#x", c.name, first, sum.Sum64())
		}
	}
}
