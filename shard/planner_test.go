package shard_test

import (
	"math"
	"slices"
	"testing"

	"github.com/distributed-resource-manager/drm/shard"
)

func member(weight int) shard.Capacity { return shard.Capacity{Weight: weight, Takes: true, Room: -1} }

// equals returns members of weight 1, one for each letter.
func equals(ids string) map[string]shard.Capacity {
	members := map[string]shard.Capacity{}
	for _, id := range ids {
		members[string(id)] = member(1)
	}
	return members
}

func without(members map[string]shard.Capacity, id string, change func(*shard.Capacity)) map[string]shard.Capacity {
	c := members[id]
	change(&c)
	members[id] = c
	return members
}

func all(int) bool { return true }

func TestPlanner(t *testing.T) {
	const unlimited = math.MaxInt64
	for _, c := range []struct {
		name        string
		home, owner string // one letter for each shard, a dot for none; no owner: as home
		load        []int64
		members     map[string]shard.Capacity
		fixed       []int
		do          func(p *shard.Planner)
		want        string
	}{
		{
			name: "spread: nine on three", home: "aaaaabbbc", owner: ".........",
			load: []int64{1, 1, 1, 1, 1, 1, 1, 1, 1}, members: equals("abc"),
			do: func(p *shard.Planner) { p.Spread(all) }, want: "aaaccbbbc",
		},
		{
			name: "spread: what is free and has an owner too", home: "aaaaabbbc",
			load: []int64{1, 1, 1, 1, 1, 1, 1, 1, 1}, members: equals("abc"),
			do: func(p *shard.Planner) { p.Spread(all) }, want: "aaaccbbbc",
		},
		{
			name: "spread: only what is free", home: "aaaaab", load: []int64{1, 1, 1, 1, 1, 1}, members: equals("ab"),
			do: func(p *shard.Planner) { p.Spread(func(s int) bool { return s == 2 }) }, want: "aabaab",
		},
		{
			name: "spread: empty shards go home",
			home: "aab", owner: "bba", load: []int64{0, 0, 5}, members: equals("ab"),
			do: func(p *shard.Planner) { p.Spread(all) }, want: "aaa",
		},
		{
			name: "spread: the heaviest first", home: "aaaaa", owner: ".....", load: []int64{2, 3, 4, 5, 6},
			members: equals("ab"),
			do:      func(p *shard.Planner) { p.Spread(all) }, want: "bbaba",
		},
		{
			name: "spread: by weight", home: "aaaa", owner: "....", load: []int64{1, 1, 1, 1},
			members: map[string]shard.Capacity{"a": member(1), "b": member(3)},
			do:      func(p *shard.Planner) { p.Spread(all) }, want: "abbb",
		},
		{
			name: "spread: nobody takes anything", home: "....", owner: "z..z", load: []int64{1, 1, 1, 1},
			do: func(p *shard.Planner) { p.Spread(all) }, want: "....",
		},
		{
			name: "spread: one resource stays at home", home: "b", owner: ".", load: []int64{1}, members: equals("abc"),
			do: func(p *shard.Planner) { p.Spread(all) }, want: "b",
		},
		{
			name: "spread: not to one without room", home: "aaaa", owner: "....", load: []int64{1, 1, 1, 1},
			members: without(equals("abc"), "a", func(c *shard.Capacity) { c.Room = 1 }),
			do:      func(p *shard.Planner) { p.Spread(all) }, want: "abcb",
		},
		{
			name: "empty: home, or to the least strained", home: "bbbc", owner: "aaac", load: []int64{1, 1, 1, 1},
			members: equals("abc"),
			do:      func(p *shard.Planner) { p.Empty("a", unlimited) }, want: "bbcc",
		},
		{
			name: "empty: some at a time", home: "bbb", owner: "aaa", load: []int64{1, 4, 2}, members: equals("ab"),
			do: func(p *shard.Planner) { p.Empty("a", 3) }, want: "bab",
		},
		{
			name: "empty: at least one", home: "bbb", owner: "aaa", load: []int64{9, 8, 7}, members: equals("ab"),
			do: func(p *shard.Planner) { p.Empty("a", 3) }, want: "aab",
		},
		{
			name: "empty: none", home: "bbb", owner: "aaa", load: []int64{9, 8, 7}, members: equals("ab"),
			do: func(p *shard.Planner) { p.Empty("a", 0) }, want: "aaa",
		},
		{
			name: "empty: nobody else", home: "aaa", load: []int64{9, 8, 7}, members: equals("a"),
			do: func(p *shard.Planner) { p.Empty("a", unlimited) }, want: "aaa",
		},
		{
			name: "empty: those that are preferred", home: "bbbb", owner: "aaaa", load: []int64{1, 1, 1, 1},
			members: without(equals("abcd"), "c", func(c *shard.Capacity) { c.Room = 2 }),
			do: func(p *shard.Planner) {
				p.Prefer(func(m string) bool { return m == "c" })
				p.Empty("a", unlimited)
			}, want: "ccbd",
		},
		{
			name: "empty: none preferred takes shards",
			home: "bb", owner: "aa", load: []int64{1, 1}, members: equals("ab"),
			do: func(p *shard.Planner) {
				p.Prefer(func(m string) bool { return m == "z" })
				p.Empty("a", unlimited)
			}, want: "bb",
		},
		{
			name: "fill: shards that come home", home: "aabacb", owner: "aabaab", load: []int64{1, 1, 1, 1, 1, 1},
			members: equals("abc"),
			do:      func(p *shard.Planner) { p.Fill("c") }, want: "cabacb",
		},
		{
			name: "fill: not more than the fair share", home: "cccc", owner: "aabb", load: []int64{1, 1, 1, 1},
			members: equals("abc"),
			do:      func(p *shard.Planner) { p.Fill("c") }, want: "cabb",
		},
		{
			name: "fill: not below the fair share of others", home: "cca", owner: "abb", load: []int64{1, 4, 4},
			members: equals("abc"),
			do:      func(p *shard.Planner) { p.Fill("c") }, want: "abb",
		},
		{
			name: "fill: empty shards come home", home: "ab", owner: "aa", load: []int64{1, 0}, members: equals("ab"),
			do: func(p *shard.Planner) { p.Fill("b") }, want: "ab",
		},
		{
			name: "fill: one that takes nothing", home: "bb", owner: "aa", load: []int64{1, 1},
			members: without(equals("ab"), "b", func(c *shard.Capacity) { c.Takes = false }),
			do:      func(p *shard.Planner) { p.Fill("b") }, want: "aa",
		},
		{
			name: "level: within the limits", home: "bbbbbb", owner: "aaaabb", load: []int64{1, 1, 1, 1, 1, 1},
			members: equals("ab"),
			do:      func(p *shard.Planner) { p.Level(unlimited) }, want: "aaaabb",
		},
		{
			name: "level: until midway", home: "aaaaab", load: []int64{1, 1, 1, 1, 1, 1}, members: equals("ab"),
			do: func(p *shard.Planner) { p.Level(unlimited) }, want: "bbaaab",
		},
		{
			name: "level: home rather than elsewhere", home: "aaaaac", owner: "aaaaaa", load: []int64{1, 1, 1, 1, 1, 1},
			members: equals("abc"),
			do:      func(p *shard.Planner) { p.Level(1) }, want: "aaaaac",
		},
		{
			name: "level: fixed shards stay", home: "aaaaa", load: []int64{1, 1, 1, 1, 1}, members: equals("ab"),
			fixed: []int{0, 1, 2, 4},
			do:    func(p *shard.Planner) { p.Level(unlimited) }, want: "aaaba",
		},
		{
			name: "level: not to one that is cordoned", home: "aaaa", load: []int64{1, 1, 1, 1},
			members: without(equals("ab"), "b", func(c *shard.Capacity) { c.Takes = false }),
			do:      func(p *shard.Planner) { p.Level(unlimited) }, want: "aaaa",
		},
		{
			name: "level: one huge shard stays", home: "ab", load: []int64{100, 1}, members: equals("ab"),
			do: func(p *shard.Planner) { p.Level(unlimited) }, want: "ab",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.owner == "" {
				c.owner = c.home
			}
			p := shard.NewPlanner(shard.Problem{
				Home: letters(c.home), Owner: letters(c.owner), Load: c.load, Members: c.members,
				Fixed: func(s int) bool { return slices.Contains(c.fixed, s) },
			})
			c.do(p)
			if got := written(p.Owners()); got != c.want {
				t.Errorf("%s, want %s; steps %v", got, c.want, p.Steps())
			}
		})
	}
}

// written is the opposite of letters.
func written(owners []string) (s string) {
	for _, m := range owners {
		if m == "" {
			m = "."
		}
		s += m
	}
	return s
}
