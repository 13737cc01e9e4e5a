//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/distributed-resource-manager/drm/internal/journal"
)

// These scenarios are a resource whose handling kills its member. Somebody starts each member again.

var poisonScenarios = []scenario{
	{"a new resource kills each of 4 members that handles it, TTL 3 s", false, 1, (*chaos).poisonAmongOld},
	{"the same, while 30 others begin", false, 1, func(c *chaos) { c.ttl = faultTTL; c.poison(c.unsupervised()) }},
}

// poisoning says how the members live among which there is a resource that kills.
type poisoning struct {
	start func(id string)
	die   func(id string) // ends a member, which is started again
	// age is for how long everything else has been handled when the poison comes. What was begun less than 10 s before
	// a death is suspected of it.
	age time.Duration
	// within is how long what else a member had may be unhandled after its death; 0: that is not judged.
	within time.Duration
}

// unsupervised is for members whose claims outlive them.
func (c *chaos) unsupervised() poisoning {
	return poisoning{
		start: func(id string) { c.start(id) },
		die:   func(id string) { c.kill(id); c.start(id) },
	}
}

// poisonAmongOld is poison where everything else was handled long before, so that nobody suspects it.
func (c *chaos) poisonAmongOld() {
	c.ttl = faultTTL
	p := c.unsupervised()
	p.age = 12 * time.Second
	p.within = c.ttl + handoverSlack
	c.poison(p)
}

// poisonID is the id of the resource that kills.
const poisonID = "poison"

// poison lets one resource kill its members until it is quarantined, and frees it when it is harmless.
func (c *chaos) poison(p poisoning) {
	doomed := make(chan string, 64)
	var harmless atomic.Bool
	c.serviceOf(func(member, id string, over <-chan struct{}) bool {
		if id != poisonID || harmless.Load() {
			return true
		}
		doomed <- member
		<-over // the member dies before it has an answer
		return false
	})
	members := []string{"a", "b", "c", "d"}
	c.fill(30)
	for _, id := range members {
		p.start(id)
	}
	before := c.all(members...)
	if p.age > 0 {
		c.lasts(p.age)
	}
	fault := c.now()
	c.allocate(poisonID)
	deaths := c.dieOf(doomed, len(before), p.die)
	if deaths > 3 {
		c.t.Errorf("%d members died of it, want 3 at most", deaths)
	}
	c.takeover = time.Since(fault.at)
	c.note("%d members died of it; it was quarantined after %s", deaths, seconds(c.takeover))
	c.backAfterDeaths(p.within)

	harmless.Store(true)
	if got := drmctl(c.t.Context(), append(c.args(), "retry", poisonID)...); got.code != exitFine {
		c.t.Fatalf("retry: %s", got.stderr)
	}
	c.all(members...)
}

// backAfterDeaths notes how long what the dead members had, other than the poison, was unhandled after each death, and
// fails the test where that is longer than it may be.
func (c *chaos) backAfterDeaths(within time.Duration) {
	c.t.Helper()
	longest := map[time.Time]time.Duration{} // by death
	for r, list := range journal.Timeline(c.journal.Events()) {
		for i, h := range list[:len(list)-1] {
			if r != poisonID && h.End == journal.Gone {
				longest[h.To] = max(longest[h.To], list[i+1].From.Sub(h.To))
			}
		}
	}
	var each []string
	for _, at := range slices.SortedFunc(maps.Keys(longest), time.Time.Compare) {
		each = append(each, seconds(longest[at]))
		if within > 0 && longest[at] > within {
			c.t.Errorf("what a dead member had besides was unhandled for %v, want %v", longest[at], within)
		}
	}
	c.note("all else that the dead had was handled again %s after their deaths", strings.Join(each, ", "))
}

// dieOf lets each member that is doomed die, until the poison is quarantined and everything else is handled. It returns
// how many have died.
func (c *chaos) dieOf(doomed <-chan string, good int, die func(id string)) (deaths int) {
	c.t.Helper()
	for deadline := time.Now().Add(3 * e2ePatience); ; {
		select {
		case id := <-doomed:
			deaths++
			die(id)
			continue
		case <-time.After(200 * time.Millisecond):
		}
		last := drmctl(c.t.Context(), append(c.args(), "-o", "json", "lookup", poisonID)...)
		var found assignmentJSON
		if last.code == exitFine && json.Unmarshal([]byte(last.stdout), &found) == nil && found.State == "quarantined" {
			if !strings.Contains(found.Error, fmt.Sprintf("%d members died", deaths)) {
				c.t.Errorf("the evidence of %d deaths is %q", deaths, found.Error)
			}
			if s, ok := c.status(); ok && s.Active == good && s.Quarantined == 1 {
				return deaths
			}
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("it is not quarantined after %d deaths: %s%s", deaths, last.stdout, last.stderr)
		}
	}
}
