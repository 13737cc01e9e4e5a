package shard

import "github.com/cespare/xxhash/v2"

// Of returns the shard of a resource, 0 to shards-1: xxHash64 of its id, modulo shards. It panics if shards is less
// than 1. Every string has a shard, even one that is not allowed as an id.
func Of(id string, shards int) int {
	if shards < 1 {
		panic("shard: the number of shards must be at least 1")
	}
	return int(xxhash.Sum64String(id) % uint64(shards))
}
