package shard_test

import (
	"fmt"

	"github.com/distributed-resource-manager/drm/shard"
)

func everyoneIsLive(string) bool { return true }

// A resource belongs to a shard, and a shard to a member. When a group of three loses a member, only that member's
// shards move.
func Example() {
	const shards = 1024
	// Each member has reserved a slot. Bob's slot stays his while he is away, but is not live then.
	before := shard.Assign(shards, shard.NewRing([]string{"ann", "bob", "cid"}), nil, nil, everyoneIsLive)
	after := shard.Assign(shards, shard.NewRing([]string{"ann", "", "cid"}), nil, nil, everyoneIsLive)

	s := shard.Of("wss://example.org/feed", shards)
	fmt.Println("shard", s, "went from", before[s], "to", after[s])
	fmt.Println(shard.Moves(before, after), "shards moved, at least", shard.LeastMoves(before, after), "had to")
	// Output:
	// shard 486 went from bob to cid
	// 361 shards moved, at least 361 had to
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

// Ann has more than her share of the resources, so one of her shards is better off with Bob.
func ExampleBalance() {
	exceptions := shard.Balance(shard.Placement{
		Home:    []string{"ann", "ann", "ann", "bob"},
		Load:    []int{40, 20, 20, 20}, // resources in each shard
		Weights: map[string]int{"ann": 1, "bob": 1},
		Bound:   1.2, // so each may have at most 60
	})
	fmt.Println(exceptions)
	// Output: map[1:bob]
}
