package shard_test

import (
	"fmt"
	"testing"

	"github.com/distributed-resource-manager/drm/shard"
)

func BenchmarkOf(b *testing.B) {
	ids := make([]string, 1024)
	for i := range ids {
		ids[i] = fmt.Sprint("wss://example.org/feed/", i)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		shard.Of(ids[i%len(ids)], 1024)
		i++
	}
}

func rings() map[string]*shard.Ring {
	return map[string]*shard.Ring{
		"10 of 10":      shard.NewRing(slotsWhere(10, func(int) bool { return true })),
		"1000 of 1000":  shard.NewRing(slotsWhere(1000, func(int) bool { return true })),
		"10 of 1000":    shard.NewRing(slotsWhere(1000, func(i int) bool { return i%100 == 0 })),
		"1 of 32000":    shard.NewRing(slotsWhere(32_000, func(i int) bool { return i == 16_000 })),
		"1000 of 32000": shard.NewRing(slotsWhere(32_000, func(i int) bool { return i%32 == 0 })),
	}
}

func BenchmarkOwner(b *testing.B) {
	for name, ring := range rings() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			s := 0
			for b.Loop() {
				ring.Owner(s % 4096)
				s++
			}
		})
	}
}

func BenchmarkOwnersOf4096Shards(b *testing.B) {
	for name, ring := range rings() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				owners(ring, 4096)
			}
		})
	}
}
