package spread

import (
	"math"
	"time"

	"github.com/distributed-resource-manager/drm/shard"
)

// placer does what the coordinator of a group does: it publishes exceptions to the ring, so that the load stays within
// the bound.
type placer struct {
	group *group
	load  []int64
	cost  Cost
	plans int
}

// Cost is what it takes to keep the load within the bound.
type Cost struct {
	// Plan is how long it takes on average to plan a change of the placement; PlanMax is the longest. Only the
	// coordinator does so.
	Plan, PlanMax time.Duration
	// Corrections is how many shards were moved so that the load got within the bound again, and Corrected the load of
	// these shards.
	Corrections int
	Corrected   int64
	// Events is how many events these corrections sent to each member: the greatest number for a correction, and
	// EventBytes the size of the largest of them.
	Events, EventBytes int
	// Worst is the greatest load that a member ever had after a correction, as a part of what it may have at most: the
	// bound is kept if that is 1 or less.
	Worst float64
	// Exceptions is how many exceptions there are at the end, MostExceptions how many there ever were.
	Exceptions, MostExceptions int
}

// plan lets a planner change the placement in force. homes are the owners by the ring, owners those in force.
func (c *placer) plan(
	homes, owners []string, members map[string]shard.Capacity, do func(*shard.Planner),
) *shard.Planner {
	began := time.Now()
	p := shard.NewPlanner(shard.Problem{Home: homes, Owner: owners, Load: c.load, Members: members})
	do(p)
	took := time.Since(began)
	c.cost.Plan += took // the sum; it becomes the average at the end
	c.cost.PlanMax = max(c.cost.PlanMax, took)
	c.plans++
	return p
}

// publish writes the exceptions that a plan needs, and takes back the others.
func (c *placer) publish(homes []string, p *shard.Planner) {
	for n, owner := range p.Owners() {
		c.write(n, homes, owner)
	}
	c.cost.MostExceptions = max(c.cost.MostExceptions, len(c.group.placed))
}

// write makes a shard belong to an owner.
func (c *placer) write(n int, homes []string, owner string) (bytes int) {
	if owner == homes[n] {
		return c.group.accept(n) // the ring says so
	}
	return c.group.except(n, owner)
}

// spread places shards in which nothing is handled yet.
func (c *placer) spread(homes []string, members map[string]int) {
	p := c.plan(homes, make([]string, len(homes)), capacities(members), func(p *shard.Planner) {
		p.Spread(func(int) bool { return true })
	})
	c.publish(homes, p)
}

// fill prepares the join of a member.
func (c *placer) fill(who string, homes, owners []string, members map[string]int) {
	p := c.plan(homes, owners, capacities(members), func(p *shard.Planner) { p.Fill(who) })
	c.publish(homes, p)
}

// empty prepares that a member will own nothing. members are the others.
func (c *placer) empty(who string, homes, owners []string, members map[string]int) {
	all := capacities(members)
	all[who] = shard.Capacity{Weight: 1, Room: -1}
	p := c.plan(homes, owners, all, func(p *shard.Planner) { p.Empty(who, math.MaxInt64) })
	c.publish(homes, p)
}

// level corrects the placement, as far as it has to.
func (c *placer) level(homes, owners []string, members map[string]int) {
	p := c.plan(homes, owners, capacities(members), func(p *shard.Planner) {
		c.publish(homes, p) // exceptions that say nothing go
		p.Level(math.MaxInt64)
	})
	for _, step := range p.Steps() {
		c.cost.Corrections++
		c.cost.Corrected += c.load[step.Shard]
		before := c.group.revision
		bytes := c.write(step.Shard, homes, step.To)
		c.cost.Events = max(c.cost.Events, int(c.group.revision-before))
		c.cost.EventBytes = max(c.cost.EventBytes, bytes)
	}
	for id := range members {
		c.cost.Worst = max(c.cost.Worst, float64(p.Load(id))/float64(max(1, p.Limit(id))))
	}
	c.cost.MostExceptions = max(c.cost.MostExceptions, len(c.group.placed))
}

// end returns what it took.
func (c *placer) end() Cost {
	c.cost.Plan /= time.Duration(max(1, c.plans))
	c.cost.Exceptions = len(c.group.placed)
	return c.cost
}

// capacities are those of members that take shards, given their weights.
func capacities(members map[string]int) map[string]shard.Capacity {
	all := make(map[string]shard.Capacity, len(members)+1)
	for id, weight := range members {
		all[id] = shard.Capacity{Weight: weight, Takes: true, Room: -1}
	}
	return all
}
