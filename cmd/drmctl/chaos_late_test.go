//go:build unix

package main

import (
	"strings"
	"time"

	"github.com/distributed-resource-manager/drm/internal/journal"
)

// In these scenarios receivers look at requests late, even after the member has given a request up and sent the next
// one. What counts is what runs in the receivers.

var lateScenarios = []scenario{
	{"SIGKILL and started again at once, receivers up to 300 ms late, TTL 1 s", true, 1, (*chaos).killedAndBack},
	{"the same, receivers that compare tokens only, TTL 3 s", false, 1, (*chaos).killedAndBackNaively},
	{"a cold start of many, receivers up to 300 ms late", true, 1, (*chaos).coldStart},
}

const lateMost = 300 * time.Millisecond

// killedAndBack kills one member after the other, and starts it again at once. So its resources move to the others and
// back while their Handle is in progress.
func (c *chaos) killedAndBack() {
	rounds := 2
	if c.long {
		rounds = 25
	}
	c.ttl = time.Second
	c.killEachAndStart(rounds)
}

// killedAndBackNaively has receivers that cannot tell that a request comes late. All is well all the same while no
// claim ends during a Handle, since members wait for the answers. So the TTL is long enough that no lease is lost.
func (c *chaos) killedAndBackNaively() {
	c.ttl = faultTTL
	c.naive = true
	c.killEachAndStart(5)
}

func (c *chaos) killEachAndStart(rounds int) {
	c.lateness(2, lateMost)
	// Each member is killed soon after it has begun with many resources. Some of them would be accused of its death.
	c.flags = append(c.flags, "--quarantine-after", "0")
	members := []string{"a", "b", "c", "d"}
	c.blink()
	c.begin(400, members...)
	for round := range rounds {
		id := members[round%len(members)]
		fault := c.now()
		fault.at = c.kill(id)
		c.start(id)
		c.all(members...)
		c.runsOnce(members...)
		c.takeover = max(c.takeover, c.took(fault))
	}
	c.overlapsOfTheFenced()
	c.note("%d kills; the time is that of the slowest, from the kill until all was where it belongs", rounds)
}

// coldStart starts many members in a row, so that what one of them begins has to move to the next.
func (c *chaos) coldStart() {
	n := 5
	if c.long {
		n = 50
	}
	c.lateness(2, lateMost)
	c.blink()
	members := numbered("m", n)
	start := c.now()
	c.begin(400, members...)
	c.runsOnce(members...)
	c.takeover = c.took(start)
	c.overlapsOfTheFenced()
	c.note("%d members; the time is from the first one's start", n)
}

// runsOnce waits until no request is on its way any more, and then until each resource runs where it should.
func (c *chaos) runsOnce(members ...string) {
	c.t.Helper()
	c.quiet()
	c.all(members...)
}

// overlapsOfTheFenced judges the overlaps. On a machine that is too busy for so short a TTL, a member that is fenced
// tells its receiver by its deadline to end everything, but does not know how late the receiver looks at that. So a
// resource may then run in two receivers for as long as they are late. Without a fence there is no overlap at all.
func (c *chaos) overlapsOfTheFenced() {
	c.t.Helper()
	r, overlap := journal.LongestOverlap(c.journal.Events())
	fences := 0
	for _, log := range c.logs {
		fences += strings.Count(log.all(), "lease fenced")
	}
	switch {
	case overlap > 0 && fences == 0:
		c.t.Errorf("%s ran in two receivers for %v, and no lease was fenced", r, overlap)
	case overlap > lateMost+c.ttl:
		c.t.Errorf("%s ran in two receivers for %v, and they are late by %v at most", r, overlap, lateMost)
	}
	if fences > 0 {
		c.note("%d leases were fenced", fences)
	}
}
