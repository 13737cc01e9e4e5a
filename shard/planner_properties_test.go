package shard_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/shard"
)

// drawProblem makes up a group, of which some members are cordoned, some full, and some have no share.
func drawProblem(t *rapid.T) shard.Problem {
	members := rapid.IntRange(1, 30).Draw(t, "members")
	shards := rapid.IntRange(1, 200).Draw(t, "shards")
	p := shard.Problem{
		Home: make([]string, shards), Owner: make([]string, shards), Load: make([]int64, shards),
		Members: map[string]shard.Capacity{},
	}
	heaviest := rapid.SampledFrom([]int{1, 1, 4, 100}).Draw(t, "heaviest member")
	largest := rapid.SampledFrom([]int64{1, 10, 1000}).Draw(t, "largest shard")
	odd := rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "odd members in ten")
	for i := range members {
		c := member(rapid.IntRange(1, heaviest).Draw(t, "weight"))
		if rapid.IntRange(0, 9).Draw(t, "odd") < odd {
			switch rapid.IntRange(0, 2).Draw(t, "kind") {
			case 0:
				c.Takes = false
			case 1:
				c.Weight = 0
			case 2:
				c.Room = rapid.Int64Range(0, largest*20).Draw(t, "room")
			}
		}
		p.Members[fmt.Sprint("m", i)] = c
	}
	one := func(label string) string { return fmt.Sprint("m", rapid.IntRange(0, members).Draw(t, label)) }
	clustered := rapid.Bool().Draw(t, "clustered")
	for s := range shards {
		p.Load[s] = rapid.Int64Range(0, largest).Draw(t, "load")
		p.Home[s], p.Owner[s] = one("home"), one("owner")
		if clustered {
			p.Owner[s] = fmt.Sprint("m", s%2)
		}
	}
	if rapid.Bool().Draw(t, "pins") {
		n := rapid.IntRange(2, 50).Draw(t, "pin one in")
		p.Fixed = func(s int) bool { return s%n == 0 }
	}
	return p
}

func (o oracle) fixed(s int) bool { return o.Fixed != nil && o.Fixed(s) }

// oracle checks what a planner does.
type oracle struct {
	shard.Problem
	limit map[string]int64
}

// loads adds up what members have.
func (o oracle) loads(owners []string) map[string]int64 {
	load := map[string]int64{}
	for s, m := range owners {
		load[m] += o.Load[s]
	}
	return load
}

// strain returns a load as a part of a limit.
func (o oracle) strain(m string, load int64) float64 {
	return float64(load) / float64(max(1, o.limit[m]))
}

// check fails unless the steps lead to the owners, and break no rule. May says which fixed shards move nevertheless.
func (o oracle) check(t *rapid.T, p *shard.Planner, may func(s int) bool) {
	t.Helper()
	owners, load := p.Owners(), o.loads(o.Owner)
	seen := map[int]bool{}
	at := slices.Clone(o.Owner)
	for s, m := range at {
		if _, ok := o.Members[m]; !ok {
			at[s] = ""
		}
	}
	var steps int64
	for _, step := range p.Steps() {
		if seen[step.Shard] || step.From != o.Owner[step.Shard] || step.From == step.To {
			t.Fatalf("a senseless step %v of %v", step, p.Steps())
		}
		seen[step.Shard] = true
		at[step.Shard] = step.To
		steps += o.Load[step.Shard]
		if c := o.Members[step.To]; (!c.Takes || c.Weight < 1) && o.Load[step.Shard] > 0 {
			t.Fatalf("%v goes to a member that takes nothing: %+v", step, c)
		}
		if o.fixed(step.Shard) && !may(step.Shard) {
			t.Fatalf("%v moves a fixed shard", step)
		}
	}
	if !slices.Equal(at, owners) {
		t.Fatalf("the steps %v do not lead to %v", p.Steps(), owners)
	}
	after := o.loads(owners)
	for m, c := range o.Members {
		if p.Load(m) != after[m] {
			t.Fatalf("%s has %d, and the planner says %d", m, after[m], p.Load(m))
		}
		if c.Room >= 0 && after[m] > c.Room && after[m] > load[m] {
			t.Fatalf("%s has %d, had %d, and has room for %d", m, after[m], load[m], c.Room)
		}
	}
}

func none(int) bool { return false }

func (o oracle) orphan(s int) bool {
	_, ok := o.Members[o.Owner[s]]
	return !ok
}

func newPlanner(problem shard.Problem) (*shard.Planner, oracle) {
	p := shard.NewPlanner(problem)
	o := oracle{Problem: problem, limit: map[string]int64{}}
	for m := range problem.Members {
		o.limit[m] = p.Limit(m)
	}
	return p, o
}

func TestLimitsAreTheBoundThatIsPromised(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		problem := drawProblem(t)
		p := shard.NewPlanner(problem)
		var total, weights, most, room int64
		for _, n := range problem.Load {
			total += n
			most = max(most, n)
		}
		usual := true // no member is cordoned or full
		for m, c := range problem.Members {
			weights += int64(c.Weight)
			usual = usual && c.Takes && c.Room < 0
			if c.Weight > 0 {
				room += p.Fair(m) + 1
			}
		}
		for m, c := range problem.Members {
			fair := float64(total) * float64(c.Weight) / float64(max(1, weights))
			bound := max(1.05*fair, fair+float64(most))
			switch {
			case c.Weight == 0 && p.Limit(m) != 0:
				t.Fatalf("%s has no share, and a limit of %d", m, p.Limit(m))
			case c.Weight > 0 && usual && math.Abs(bound-float64(p.Limit(m))) > 1:
				t.Fatalf("%s has a limit of %d, and the bound is %g", m, p.Limit(m), bound)
			case c.Weight > 0 && c.Takes && c.Room < 0 && float64(p.Limit(m)) < bound-1:
				t.Fatalf("%s has a limit of %d, below the bound of %g", m, p.Limit(m), bound)
			case c.Room >= 0 && p.Fair(m) > c.Room:
				t.Fatalf("%s has a fair share of %d with a room of %d", m, p.Fair(m), c.Room)
			case c.Weight > 0 && c.Takes && c.Room < 0 && room < total:
				t.Fatalf("the fair shares are only %d of %d, and %s could take more", room, total, m)
			}
		}
	})
}

func TestLevelReachesTheLimitsOrNoSingleMoveImproves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, o := newPlanner(drawProblem(t))
		p.Level(math.MaxInt64)
		o.check(t, p, none)
		owners := p.Owners()
		before, after := o.loads(o.Owner), o.loads(owners)
		var worstBefore, worst float64
		for m, c := range o.Members {
			if c.Weight < 1 {
				continue
			}
			limit := p.Limit(m)
			o.limit[m] = limit
			worstBefore = max(worstBefore, o.strain(m, before[m]))
			worst = max(worst, o.strain(m, after[m]))
			if after[m] <= limit {
				continue
			}
			for s, owner := range owners {
				if owner != m || o.Load[s] == 0 || o.fixed(s) {
					continue
				}
				for other, c := range o.Members {
					load := after[other] + o.Load[s]
					if other == m || !c.Takes || c.Weight < 1 || c.Room >= 0 && load > c.Room {
						continue
					}
					if load <= p.Limit(other) || o.strain(other, load) < o.strain(m, after[m]) {
						t.Fatalf("%s has %d of %d, and %s (%d of %d) could take shard %d of %d",
							m, after[m], limit, other, after[other], p.Limit(other), s, o.Load[s])
					}
				}
			}
		}
		if worst > max(1, worstBefore) {
			t.Fatalf("the greatest strain rose from %g to %g", worstBefore, worst)
		}
		over := false
		for m, c := range o.Members {
			over = over || c.Weight > 0 && before[m] > o.limit[m]
		}
		if !over && len(p.Steps()) > 0 {
			t.Fatalf("nobody was above a limit: %v", p.Steps())
		}
	})
}

// The budget bounds what moves, and going on with what is left leads to the limits as well.
func TestLevelMovesNoMoreThanItMay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, o := newPlanner(drawProblem(t))
		most := rapid.Int64Range(0, 100).Draw(t, "most")
		p.Level(most)
		o.check(t, p, none)
		var moved int64
		for _, step := range p.Steps() {
			moved += o.Load[step.Shard]
		}
		if moved > most && (len(p.Steps()) > 1 || most == 0) {
			t.Fatalf("%d moved, in %v", moved, p.Steps())
		}
	})
}

// Where all shards weigh the same, only what is above the fair share of a member above its limit moves, and each shard
// once.
func TestLevelMovesFewShards(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		problem := drawProblem(t)
		for s := range problem.Load {
			problem.Load[s] = 1
		}
		p, o := newPlanner(problem)
		before := o.loads(o.Owner)
		most := int64(0)
		for m, c := range o.Members {
			if c.Weight > 0 && before[m] > p.Limit(m) {
				most += before[m] - p.Fair(m)
			}
		}
		p.Level(math.MaxInt64)
		if moved := int64(len(p.Steps())); moved > most {
			t.Fatalf("%d shards moved, and at most %d were too many", moved, most)
		}
	})
}

func TestPreferredMembersGetWhatMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		problem := drawProblem(t)
		ids := slices.Sorted(maps.Keys(problem.Members))
		newer := map[string]bool{}
		for _, id := range rapid.SliceOfN(rapid.SampledFrom(ids), 0, 5).Draw(t, "newer") {
			newer[id] = true
		}
		gone := rapid.SampledFrom(ids).Draw(t, "gone")
		p, o := newPlanner(problem)
		p.Prefer(func(m string) bool { return newer[m] })
		p.Empty(gone, math.MaxInt64)
		p.Level(math.MaxInt64)
		roomy := false
		for m := range newer {
			c := o.Members[m]
			roomy = roomy || m != gone && c.Takes && c.Weight > 0 && c.Room < 0
		}
		for _, step := range p.Steps() {
			if roomy && !newer[step.To] {
				t.Fatalf("%v, and %v are preferred", step, newer)
			}
		}
	})
}

func TestPlansAreDeterministicAndSettle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		problem := drawProblem(t)
		given := slices.Clone(problem.Owner)
		gone := rapid.SampledFrom(slices.Sorted(maps.Keys(problem.Members))).Draw(t, "gone")
		free := rapid.SampledFrom([]func(int) bool{all, none, func(s int) bool { return s%3 == 0 }}).Draw(t, "free")
		for name, do := range map[string]func(p *shard.Planner){
			"spread": func(p *shard.Planner) { p.Spread(free) },
			"level":  func(p *shard.Planner) { p.Level(math.MaxInt64) },
			"empty":  func(p *shard.Planner) { p.Empty(gone, math.MaxInt64) },
			"fill":   func(p *shard.Planner) { p.Fill(gone) },
		} {
			first, again := shard.NewPlanner(problem), shard.NewPlanner(problem)
			do(first)
			do(again)
			if !slices.Equal(first.Steps(), again.Steps()) {
				t.Fatalf("%s: twice the same input: %v, then %v", name, first.Steps(), again.Steps())
			}
			if !slices.Equal(given, problem.Owner) {
				t.Fatalf("%s: the input changed: %v, then %v", name, given, problem.Owner)
			}
			next := problem
			next.Owner = first.Owners()
			settled := shard.NewPlanner(next)
			do(settled)
			for _, step := range settled.Steps() {
				if problem.Load[step.Shard] > 0 || name == "level" {
					t.Fatalf("%s: applied to its own answer %v: %v", name, next.Owner, settled.Steps())
				}
			}
		}
	})
}

func TestSpreadIsEven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		problem := drawProblem(t)
		for m, c := range problem.Members {
			problem.Members[m] = member(max(1, c.Weight))
		}
		problem.Fixed = nil
		p, o := newPlanner(problem)
		p.Spread(all)
		o.check(t, p, none)
		for m := range o.Members {
			if p.Load(m) > p.Limit(m) {
				t.Fatalf("%s has %d of %d", m, p.Load(m), p.Limit(m))
			}
		}
		for s, m := range p.Owners() {
			if _, ok := o.Members[o.Home[s]]; ok && o.Load[s] == 0 && m != o.Home[s] {
				t.Fatalf("shard %d has no load, and is not at home", s)
			}
			if m == "" && o.Load[s] > 0 {
				t.Fatalf("shard %d has no owner", s)
			}
		}
	})
}

func TestSpreadMovesOnlyWhatIsFree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, o := newPlanner(drawProblem(t))
		free := func(s int) bool { return s%3 == 0 || o.orphan(s) }
		p.Spread(free)
		for _, step := range p.Steps() {
			if c := o.Members[step.To]; !free(step.Shard) || o.fixed(step.Shard) && !o.orphan(step.Shard) ||
				!c.Takes && step.To != o.Home[step.Shard] {
				t.Fatalf("%v", step)
			}
		}
	})
}

func TestEmptyMovesTheMinimum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, o := newPlanner(drawProblem(t))
		gone := rapid.SampledFrom(slices.Sorted(maps.Keys(o.Members))).Draw(t, "gone")
		most := rapid.SampledFrom([]int64{1, 50, math.MaxInt64}).Draw(t, "most")
		left := p.Empty(gone, most)
		o.check(t, p, all)
		var moved int64
		for _, step := range p.Steps() {
			moved += o.Load[step.Shard]
			if step.From != gone {
				t.Fatalf("%v, and only %s must go", step, gone)
			}
		}
		alone := func(s shard.Step) bool { return o.Load[s.Shard] == moved }
		if moved > most && !slices.ContainsFunc(p.Steps(), alone) {
			t.Fatalf("%d moved, at most %d should", moved, most)
		}
		if had := o.loads(o.Owner)[gone]; left != had-moved {
			t.Fatalf("%d of %d moved, and %d are left", moved, had, left)
		}
		for m, c := range o.Members {
			if most == math.MaxInt64 && left > 0 && m != gone && c.Takes && c.Weight > 0 && c.Room < 0 {
				t.Fatalf("%s keeps %d, though %s takes shards", gone, left, m)
			}
		}
	})
}

func TestFillMovesTheMinimum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		problem := drawProblem(t)
		problem.Members["new"] = member(rapid.IntRange(1, 4).Draw(t, "weight"))
		p, o := newPlanner(problem)
		p.Fill("new")
		o.check(t, p, none)
		before := o.loads(o.Owner)
		for _, step := range p.Steps() {
			if step.To != "new" {
				t.Fatalf("%v, and only the newcomer should get anything", step)
			}
			if o.Load[step.Shard] > 0 && before[step.From] <= p.Fair(step.From) {
				t.Fatalf("%v takes from one with %d, and %d is fair", step, before[step.From], p.Fair(step.From))
			}
		}
		if p.Load("new") > p.Fair("new") {
			t.Fatalf("the newcomer has %d, and %d is fair", p.Load("new"), p.Fair("new"))
		}
	})
}
