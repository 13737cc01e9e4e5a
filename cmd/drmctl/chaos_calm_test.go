//go:build unix

package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/journal"
	"github.com/distributed-resource-manager/drm/membership"
)

// In these scenarios resources move because they are told to, while members die.

var calmScenarios = []scenario{
	{"the coordinator is killed in the middle of a drain, TTL 2 s", true, 1, (*chaos).killedInADrain},
	{"the coordinator is killed in the middle of a correction, TTL 2 s", true, 1, (*chaos).killedInACorrection},
	{"drains, cordons, pins, moves, restarts and deaths all at once, TTL 2 s", true, 1, (*chaos).ordersAndDeaths},
}

// view reads the group.
func (c *chaos) view() *membership.View {
	c.t.Helper()
	client := embeddedtest.Client(c.t, c.endpoints...)
	g, err := membership.Find(c.t.Context(), client, "/drm", "e2e")
	if err != nil {
		c.t.Fatal(err)
	}
	v, err := g.Read(c.t.Context(), client)
	if err != nil {
		c.t.Fatal(err)
	}
	return v
}

// handled counts how often each resource was handled since the mark.
func (c *chaos) handled(m mark) map[string]int {
	times := map[string]int{}
	for _, e := range c.since(m.events) {
		if e.Action == journal.Handle {
			times[e.Resource]++
		}
	}
	return times
}

// awaitHandled waits until so many resources were handled since the mark.
func (c *chaos) awaitHandled(m mark, n int) {
	c.t.Helper()
	eventually(c.t, func() error {
		if got := len(c.handled(m)); got < n {
			return fmt.Errorf("%d have moved, want %d", got, n)
		}
		return nil
	})
}

// once checks that nothing was handled twice since the mark but what a dead member has had, before or meanwhile, and
// that nothing else was touched than what these members had.
func (c *chaos) once(m mark, before map[string]string, dead string, from ...string) (moved int) {
	c.t.Helper()
	of := map[string]bool{}
	for _, e := range c.since(m.events) {
		if e.Action == journal.Handle && e.Member == dead {
			of[e.Resource] = true
		}
	}
	twice, others := 0, 0
	for r, n := range c.handled(m) {
		moved++
		was := before[r]
		if was != dead && !of[r] && n > 1 {
			twice++
		}
		if was != dead && !slices.Contains(from, was) {
			others++
		}
	}
	if twice+others > 0 {
		c.t.Errorf("%d resources moved twice, and %d of members that were to keep theirs", twice, others)
	}
	return moved
}

// killedInADrain drains a member, and kills the coordinator while that goes on. Its successor has to go on.
func (c *chaos) killedInADrain() {
	n, moving := 240, 20
	if c.long {
		n, moving = 1200, 40
	}
	c.ttl = 2 * time.Second
	c.flags = append(c.flags, "--max-moving", fmt.Sprint(moving), "--max-moving-per-member", fmt.Sprint(moving/2))
	members := []string{"a", "b", "c", "d"}
	before := c.begin(n, members...)
	coordinator := c.view().Coordinator.ID
	others := slices.DeleteFunc(slices.Clone(members), func(id string) bool { return id == coordinator })
	drained, left := others[0], others[1:]

	m := c.now()
	c.orders("drain", drained)
	c.awaitHandled(m, moving)
	c.kill(coordinator)
	c.holders("all is with the others", func(held map[string]string) bool {
		by := slices.Compact(slices.Sorted(maps.Values(held)))
		return len(held) == n && slices.Equal(by, left)
	})
	c.takeover = c.took(m)
	moved := c.once(m, before, coordinator, drained)
	c.note("%d resources moved after the order, of which those of the coordinator may have moved twice; nothing else "+
		"did", moved)
}

// killedInACorrection gives one member twice its share, and kills the coordinator while that is corrected.
func (c *chaos) killedInACorrection() {
	n, more := 200, 150
	if c.long {
		n, more = 1000, 600
	}
	c.ttl = 2 * time.Second
	c.flags = append(c.flags, "--max-moving", "40", "--max-moving-per-member", "20", "--balance-after", "2s")
	members := []string{"a", "b", "c", "d"}
	c.begin(n, members...)
	v := c.view()
	coordinator := v.Coordinator.ID
	others := slices.DeleteFunc(slices.Clone(members), func(id string) bool { return id == coordinator })
	loaded, left := others[0], slices.Sorted(slices.Values(others))
	for i := 0; len(c.wanted) < n+more; i++ {
		id := fmt.Sprint("more", i)
		if _, owner := v.OwnerOf(id); owner == loaded {
			c.wanted = append(c.wanted, id)
		}
	}
	c.source.fill(c.wanted)
	eventually(c.t, func() error {
		if got := len(c.follower.Holders()); got < n+more {
			return fmt.Errorf("%d are handled", got)
		}
		return nil
	})
	before := map[string]string{}
	for r, by := range c.follower.Holders() {
		before[r] = by[0]
	}

	m := c.now()
	c.awaitHandled(m, 20)
	c.kill(coordinator)
	c.holders("the load is even", func(held map[string]string) bool {
		most, by := 0, map[string]int{}
		for _, id := range held {
			by[id]++
			most = max(most, by[id])
		}
		return len(held) == n+more && slices.Equal(slices.Sorted(maps.Keys(by)), left) && most <= (n+more)/3+15
	})
	c.takeover = c.took(m)
	moved := c.once(m, before, coordinator, others...)
	c.note("%d resources moved, of which those of the coordinator may have moved twice; nothing else did", moved)
}

// orders gives an order, which must succeed.
func (c *chaos) orders(args ...string) {
	c.t.Helper()
	if got := drmctl(c.t.Context(), append(c.args(), args...)...); got.code != exitFine {
		c.t.Fatalf("%s: exit code %d: %s", strings.Join(args, " "), got.code, got.stderr)
	}
}

// ordersAndDeaths has operators give orders at random, while members are killed and restarted, and one dies again and
// again.
func (c *chaos) ordersAndDeaths() {
	const n = 400
	rounds := 12
	if c.long {
		rounds = 24 // and no more, since members that have died often stay away for long
	}
	c.ttl = 2 * time.Second
	c.flags = append(c.flags, "--max-moving", "40", "--max-moving-per-member", "20", "--balance-after", "1s",
		"--rejoin", "10s",
		"--quarantine-after", "0") // what was begun just before a death would be begun one by one
	members := []string{"a", "b", "c", "d", "e", "flaps"}
	c.begin(n, members...)
	fault := c.now()
	orders, refused, deaths, flaps := 0, 0, 0, 0
	// An order may be refused: the last member is not drained, and nobody moves what is pinned.
	try := func(args ...string) {
		orders++
		if drmctl(c.t.Context(), append(c.args(), append(args, "--command-timeout", "5s")...)...).code != exitFine {
			refused++
		}
	}
	pick := func() string { return members[rand.IntN(5)] }
	resource := func() string { return c.wanted[rand.IntN(n)] }
	for round := range rounds {
		for range 4 {
			switch rand.IntN(8) {
			case 0:
				try("drain", pick())
			case 1:
				try("drain", pick(), "--for", "2s")
			case 2:
				try("undrain", pick())
			case 3:
				try("cordon", pick(), "--for", "3s")
			case 4:
				try("pin", resource(), pick(), "--yes")
			case 5:
				try("unpin", resource())
			case 6:
				try("move", resource(), pick(), "--yes")
			default:
				try("rebalance")
			}
		}
		switch id := members[round%5]; {
		case round%4 == 1 && flaps < 4:
			c.kill("flaps")
			c.start("flaps")
			flaps++
			deaths++
		case round%4 == 3:
			c.kill(id)
			c.start(id)
			deaths++
		case round%2 == 0:
			c.terminate(id)
			c.start(id)
		}
		<-time.After(500 * time.Millisecond)
	}
	v := c.view()
	for id := range v.Drains {
		c.orders("undrain", id)
	}
	for id := range v.Cordons {
		c.orders("uncordon", id)
	}
	for shard := range v.Pins {
		c.orders("unpin", "--shard", fmt.Sprint(shard))
	}
	calm := c.now()
	c.all(members...)
	c.takeover = time.Since(calm.at)
	c.note("%d orders, of which %d were refused, and %d deaths in %s; the time is from the last order on, and some "+
		"of it is for members that stay away because they have died again and again",
		orders, refused, deaths, seconds(calm.at.Sub(fault.at)))
}
