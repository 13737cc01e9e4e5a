//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// This scenario is a resource whose handling kills its member. Somebody starts each member again.

var poisonScenarios = []scenario{
	{"a new resource kills each of 4 members that handles it, TTL 3 s", true, 1, (*chaos).poisonAmongOld},
	{"the same, while 30 others begin", false, 1, func(c *chaos) { c.poison(func() {}) }},
}

// poisonAmongOld is poison where everything else was handled long before, so that nobody suspects it.
func (c *chaos) poisonAmongOld() {
	c.poison(func() { <-time.After(12 * time.Second) }) // what was begun less than 10 s ago is suspected
}

// poisonID is the id of the resource that kills.
const poisonID = "poison"

// poison lets one resource kill its members until it is quarantined, and frees it when it is harmless. The resource
// comes when before returns.
func (c *chaos) poison(before func()) {
	c.ttl = faultTTL
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
	c.begin(30, members...)
	good := len(c.wanted)
	before()
	fault := c.now()
	c.allocate(poisonID)
	deaths := c.dieOf(doomed, good)
	if deaths > 3 {
		c.t.Errorf("%d members died of it, want 3 at most", deaths)
	}
	c.takeover = time.Since(fault.at)
	c.note("%d members died of it; it was quarantined after %s", deaths, seconds(c.takeover))

	harmless.Store(true)
	if got := drmctl(c.t.Context(), append(c.args(), "retry", poisonID)...); got.code != exitFine {
		c.t.Fatalf("retry: %s", got.stderr)
	}
	c.all(members...)
}

// dieOf kills each member that is doomed, and starts it again, until the poison is quarantined and everything else is
// handled. It returns how many have died.
func (c *chaos) dieOf(doomed <-chan string, good int) (deaths int) {
	c.t.Helper()
	for deadline := time.Now().Add(3 * e2ePatience); ; {
		select {
		case id := <-doomed:
			deaths++
			c.kill(id)
			c.start(id)
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
