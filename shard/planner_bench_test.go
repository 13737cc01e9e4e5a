package shard_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/distributed-resource-manager/drm/shard"
)

// A thousand members and 4,096 shards: the most that an app may have.
func BenchmarkPlanner(b *testing.B) {
	for _, c := range []struct {
		name string
		load func(shard int) int64
	}{
		{"even shards", func(int) int64 { return 25 }},
		{"uneven shards", func(s int) int64 { return int64(s * s % 1009) }},
		{"a few huge shards", func(s int) int64 { return int64(1 + 100_000*(1-min(1, s%500))) }},
	} {
		slots := slotsWhere(1000, func(int) bool { return true })
		ring := shard.NewRing(slots)
		problem := shard.Problem{
			Home: make([]string, 4096), Owner: make([]string, 4096), Load: make([]int64, 4096),
			Members: map[string]shard.Capacity{},
		}
		for s := range problem.Load {
			problem.Home[s] = ring.Owner(s)
			problem.Load[s] = c.load(s)
		}
		for _, id := range slots {
			problem.Members[id] = member(1)
		}
		unowned := problem
		problem.Owner = problem.Home
		spread := problem
		p := shard.NewPlanner(problem)
		p.Spread(all)
		spread.Owner = p.Owners()
		problems := map[string]shard.Problem{"ring": problem, "spread": spread, "none": unowned}
		for _, op := range []struct {
			name, from string
			do         func(p *shard.Planner)
		}{
			{"spread", "none", func(p *shard.Planner) { p.Spread(all) }},
			{"level", "ring", func(p *shard.Planner) { p.Level(math.MaxInt64) }},
			{"level, all is well", "spread", func(p *shard.Planner) { p.Level(math.MaxInt64) }},
			{"empty", "spread", func(p *shard.Planner) { p.Empty(slots[7], math.MaxInt64) }},
		} {
			b.Run(fmt.Sprintf("%s/%s", c.name, op.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					op.do(shard.NewPlanner(problems[op.from]))
				}
			})
		}
	}
}

func BenchmarkFill(b *testing.B) {
	problem := shard.Problem{
		Home: make([]string, 4096), Owner: make([]string, 4096), Load: make([]int64, 4096),
		Members: map[string]shard.Capacity{},
	}
	slots := slotsWhere(1000, func(int) bool { return true })
	before, after := shard.NewRing(slots[1:]), shard.NewRing(slots)
	for s := range problem.Load {
		problem.Owner[s], problem.Home[s], problem.Load[s] = before.Owner(s), after.Owner(s), int64(20+s%11)
	}
	for _, id := range slots {
		problem.Members[id] = member(1)
	}
	b.ReportAllocs()
	for b.Loop() {
		shard.NewPlanner(problem).Fill(slots[0])
	}
}
