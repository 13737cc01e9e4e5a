package shard_test

import (
	"fmt"
	"math"

	"github.com/distributed-resource-manager/drm/shard"
)

// A resource belongs to a shard, and a shard to a member. When a group of three loses a member, only that member's
// shards move.
func Example() {
	const shards = 1024
	// Each member has reserved a slot. Bob's slot stays his while he is away, but is not live then.
	before := shard.NewRing([]string{"ann", "bob", "cid"})
	after := shard.NewRing([]string{"ann", "", "cid"})

	s := shard.Of("wss://example.org/feed", shards)
	fmt.Println("shard", s, "went from", before.Owner(s), "to", after.Owner(s))
	moved := 0
	for s := range shards {
		if from := before.Owner(s); from != after.Owner(s) && from != "bob" {
			moved++
		}
	}
	fmt.Println(moved, "others moved")
	// Output:
	// shard 486 went from bob to cid
	// 0 others moved
}

// A member that comes back gets its own slot again, and a new member takes free slots.
func ExampleReserve() {
	reserved := []string{"ann", "bob", "cid"}
	live := func(id string) bool { return id != "bob" }
	fmt.Println(shard.Reserve(reserved, live, "bob", 1)) // bob comes back
	fmt.Println(shard.Reserve(reserved, live, "dan", 2)) // dan is new, and has weight 2
	// Output:
	// [1]
	// [1 3]
}

// Ann has more than she should, so one of her shards is better off with Bob.
func ExamplePlanner() {
	p := shard.NewPlanner(shard.Problem{
		Home:  []string{"ann", "ann", "ann", "bob"},
		Owner: []string{"ann", "ann", "ann", "bob"},
		Load:  []int64{20, 20, 20, 4}, // resources in each shard
		Members: map[string]shard.Capacity{
			"ann": {Weight: 1, Takes: true, Room: -1},
			"bob": {Weight: 1, Takes: true, Room: -1},
		},
	})
	fmt.Println("ann has", p.Load("ann"), "and may have", p.Limit("ann"))
	p.Level(math.MaxInt64)
	fmt.Println(p.Steps())
	// Output:
	// ann has 60 and may have 52
	// [{2 ann bob}]
}
