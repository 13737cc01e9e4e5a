//go:build unix

package main

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/distributed-resource-manager/drm/internal/journal"
)

// In these scenarios many members leave at the same moment.

var leaveScenarios = []scenario{
	{"half of all members get SIGTERM together", true, 1, (*chaos).halfLeave},
}

// halfLeave lets one member leave alone, which shows how long a handover takes on this machine, and then half of the
// others at the same moment. All that they let go of passes one etcd, which every lease depends on. No lease may be
// fenced because of it. No resource may be unhandled for longer than if its member had died, or than ten times what a
// handover took when one member left alone.
func (c *chaos) halfLeave() {
	members, resources := 12, 2000
	if c.long {
		members, resources = 50, 20_000
	}
	ids := make([]string, members)
	for i := range ids {
		ids[i] = fmt.Sprintf("m%02d", i)
	}
	c.begin(resources, append(slices.Clone(ids), "one")...)

	alone := c.now()
	c.terminate("one")
	before := c.all(ids...)
	single := c.gap(alone)
	fencedBefore := c.fences()

	leaving, staying := ids[:members/2], ids[members/2:]
	fault := c.now()
	for _, id := range leaving {
		c.signal(id, syscall.SIGTERM)
	}
	var slowest time.Duration
	for _, id := range leaving {
		took, code := c.ends(id, fault.at)
		slowest = max(slowest, took)
		if code != exitFine {
			c.t.Errorf("%s: exit code %d: %s", id, code, c.agents[id].log.last())
		}
	}
	c.all(staying...)
	c.takeover = c.took(fault)
	c.onlyTouched(fault, before, leaving...)
	fenced := c.fences() - fencedBefore
	if fenced > 0 {
		c.t.Errorf("%d leases were fenced", fenced)
	}
	if gap, bound := c.gap(fault), max(c.ttl*4/5, 10*single); gap > bound {
		c.t.Errorf("a resource was unhandled for %v, want %v: when one member left alone it was %v", gap, bound, single)
	}
	c.note("%d of %d members with %d resources left; the last had ended after %s; %d leases were fenced; when one "+
		"left alone, the longest time unhandled was %s",
		len(leaving), members, resources, seconds(slowest), fenced, seconds(single))
}

// gap is the longest time from the end of a handling since the mark to the next one of the resource.
func (c *chaos) gap(m mark) time.Duration {
	var longest time.Duration
	ended := map[string]time.Time{}
	for _, e := range c.since(m.events) {
		switch e.Action {
		case journal.Terminate:
			ended[e.Resource] = e.Time
		case journal.Handle:
			if at, is := ended[e.Resource]; is {
				longest = max(longest, e.Time.Sub(at))
				delete(ended, e.Resource)
			}
		}
	}
	return longest
}

// fences counts the leases that were fenced, according to the agents' logs.
func (c *chaos) fences() int {
	n := 0
	for _, log := range c.logs {
		log.mu.Lock()
		n += strings.Count(string(log.text), "lease fenced")
		log.mu.Unlock()
	}
	return n
}
