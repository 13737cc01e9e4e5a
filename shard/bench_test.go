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
		"3 of 500":      shard.NewRing(slotsWhere(500, func(i int) bool { return i%200 == 7 })),
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

// The table is what the views of a member that follows the group share; without it, each view computes the probes anew.
func BenchmarkOwnersOf4096Shards(b *testing.B) {
	for name, ring := range rings() {
		with, table := ring.WithProbes(nil, 4096)
		for way, ring := range map[string]*shard.Ring{"without a table": ring, "with a table": with} {
			if table == nil && way == "with a table" {
				continue
			}
			b.Run(name+"/"+way, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					owners(ring, 4096)
				}
			})
		}
	}
}

func BenchmarkNewTableOf4096Shards(b *testing.B) {
	ring := rings()["3 of 500"]
	b.ReportAllocs()
	for b.Loop() {
		ring.WithProbes(nil, 4096)
	}
}

// weighty makes 1,000 members of weights 1 to 1,000, about 500,000 slots.
func weighty() shard.Reserved {
	r := shard.Reserved{LastSlot: 99_999}
	everybody := func(string) bool { return true }
	for n := range 1000 {
		id := fmt.Sprint("m", n)
		h := r.Reserve(everybody, id, 1+n*389%1000)
		r.Blocks = append(r.Blocks, h.Blocks...)
		for _, i := range h.Slots {
			for len(r.Slots) <= i {
				r.Slots = append(r.Slots, "")
			}
			r.Slots[i] = id
		}
	}
	return r
}

func BenchmarkAThousandWeights(b *testing.B) {
	r := weighty()
	b.Run("make the ring", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			shard.NewBlockRing(r.Slots, r.Blocks)
		}
	})
	b.Run("owners of 4096 shards", func(b *testing.B) {
		ring := shard.NewBlockRing(r.Slots, r.Blocks)
		b.ReportMetric(float64(r.Length()), "slots")
		for b.Loop() {
			owners(ring, 4096)
		}
	})
}
