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

func BenchmarkAssign4096(b *testing.B) {
	for name, ring := range rings() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				shard.Assign(4096, ring, nil, nil, everybody)
			}
		})
	}
}

func BenchmarkBalance(b *testing.B) {
	for _, c := range []struct {
		name  string
		load  func(shard int) int
		bound float64
	}{
		{"even shards", func(int) int { return 25 }, 1.1},
		{"uneven shards", func(s int) int { return s * s % 1009 }, 1.1},
		{"a few huge shards", func(s int) int { return 1 + 100_000*(1-min(1, s%500)) }, 1.01},
	} {
		b.Run(c.name, func(b *testing.B) {
			p := shard.Placement{Load: make([]int, 4096), Weights: map[string]int{}, Bound: c.bound}
			slots := slotsWhere(1000, func(int) bool { return true })
			p.Home = shard.Assign(4096, shard.NewRing(slots), nil, nil, nil)
			for s := range p.Load {
				p.Load[s] = c.load(s)
			}
			for _, id := range slots {
				p.Weights[id] = 1
			}
			b.ReportAllocs()
			for b.Loop() {
				shard.Balance(p)
			}
		})
	}
}
