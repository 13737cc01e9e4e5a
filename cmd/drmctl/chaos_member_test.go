//go:build unix

package main

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/distributed-resource-manager/drm/internal/journal"
)

// These scenarios are faults of a member's process.

const faultTTL = 3 * time.Second

var memberScenarios = []scenario{
	{"SIGKILL, TTL 2 s, 1,000 resources", false, 1, func(c *chaos) { c.killed(2 * time.Second) }},
	{"SIGKILL, TTL 5 s, 1,000 resources", true, 1, func(c *chaos) { c.killed(5 * time.Second) }},
	{"SIGKILL, TTL 10 s, 1,000 resources", false, 1, func(c *chaos) { c.killed(10 * time.Second) }},
	{"SIGSTOP for longer than the TTL (3 s), then SIGCONT", true, 1, (*chaos).stopped},
	{"the same, with processes (exec)", true, 1, (*chaos).stoppedWithChildren},
	{"SIGKILL, with processes (exec), TTL 3 s", true, 1, (*chaos).killedWithChildren},
	{"CPU starved: nice 19 beside busy loops, 10 s", false, 1, (*chaos).starved},
	{"CPU starved: stopped for 90 % of the time, 15 s", true, 1, (*chaos).stuttering},
}

// killed measures how soon the resources of a killed member are handled again, from the kill and from etcd's own expiry
// of the keys. It compares that with a graceful handover in the same run.
func (c *chaos) killed(ttl time.Duration) {
	c.ttl = ttl
	before := c.begin(e2eResources, "a", "b", "c")
	deletion := c.lastDeletion()
	fault := c.now()
	fault.at = c.kill("a")
	c.allocate("while-down")
	c.all("b", "c")
	expired := deletion().Sub(fault.at)
	c.onlyTouched(fault, before, "a")
	first := time.Hour
	for _, e := range c.since(fault.events) {
		if before[e.Resource] == "a" && e.Action == journal.Handle {
			first, c.takeover = min(first, e.Time.Sub(fault.at)), max(c.takeover, e.Time.Sub(fault.at))
		}
	}

	leaving := c.now()
	c.terminate("b")
	c.all("c")
	handover := c.took(leaving)
	c.judgeTakeover(first, c.takeover, expired, handover)
	c.note("%d resources; etcd's own expiry came after %s; the last was handled %s after it (%+.0f %%); "+
		"a graceful handover took %s",
		len(c.touched(fault, before)), seconds(expired), seconds(c.takeover-expired),
		100*(c.takeover-expired).Seconds()/expired.Seconds(), seconds(handover))
	if c.takeover > ttl+time.Second {
		c.note("not within the TTL and 1 s: the machine was busy")
	}
}

func (c *chaos) stopped() {
	c.ttl = faultTTL
	before := c.begin(200, "a", "b")
	fault := c.now()
	c.freeze("a")
	c.allocate("meanwhile")
	c.all("b")
	c.takeover = c.took(fault)
	c.onlyTouched(fault, before, "a")

	back := c.now()
	c.thaw("a")
	after := c.all("a", "b")
	for r, m := range before {
		if after[r] != m {
			c.t.Errorf("%s was with %s, and is with %s after all is over", r, m, after[r])
		}
	}
	for _, e := range c.since(back.events) {
		if e.Member == "a" && e.Action == journal.Handle && after[e.Resource] != "a" {
			c.t.Errorf("a handled %s, which is not its own", e.Resource)
		}
	}
	c.note("it had its resources back %s after SIGCONT", seconds(c.took(back)))
}

// withChildren starts members that run a process for each resource. The processes themselves tell the journal.
func (c *chaos) withChildren(n int) map[string]string {
	c.ttl = faultTTL
	return c.withChildrenOf(n, "a", "b")
}

// withChildrenOf is withChildren with other members.
func (c *chaos) withChildrenOf(n int, members ...string) map[string]string {
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	command := fmt.Sprintf("'%s' %s %s", self, asLeash, leash(c.t, c.journal))
	c.fill(n)
	for _, id := range members {
		c.start(id, "--handler-url", "", "--handler-exec", command)
	}
	return c.all(members...)
}

func (c *chaos) stoppedWithChildren() {
	before := c.withChildren(20)
	fault := c.now()
	freeze(c.t, c.agents["a"]) // the journal goes on to hear of the agent's processes
	c.all("b")
	c.takeover = c.took(fault)
	c.childrenEnded(fault, before)
	thaw(c.t, c.agents["a"])
	c.all("a", "b")
}

func (c *chaos) killedWithChildren() {
	before := c.withChildren(20)
	fault := c.now()
	if err := c.agents["a"].kill(); err != nil { // the journal goes on to hear of the agent's processes
		c.t.Fatal(err)
	}
	c.all("b")
	c.takeover = c.took(fault)
	c.childrenEnded(fault, before)
}

// childrenEnded finds, for each resource that a had, the end of a's process and the beginning of the next one.
func (c *chaos) childrenEnded(m mark, before map[string]string) {
	c.t.Helper()
	least := time.Hour
	for r, list := range journal.Timeline(c.journal.Events()) {
		if before[r] != "a" {
			continue
		}
		i := 0
		for i < len(list) && list[i].To.Before(m.at) && !list[i].Open() {
			i++
		}
		if i+1 >= len(list) || list[i].Member != "a" || list[i].Open() {
			c.t.Errorf("%s: a's process did not end before another began: %+v", r, list)
			continue
		}
		least = min(least, list[i+1].From.Sub(list[i].To))
	}
	c.note("all processes dead after %s, the closest %s before another member began", seconds(c.ended(m)),
		seconds(least))
}

func (c *chaos) starved() {
	c.begin(200, "b", "c")
	c.startAs([]string{asNice}, "a")
	before := c.all("a", "b", "c")
	fault := c.now()
	burn, err := startProcess(nil, asBurn, "10")
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = burn.kill() })
	c.lasts(5 * time.Second)
	c.allocate("meanwhile")
	select {
	case <-burn.done:
	case <-time.After(e2ePatience):
		c.t.Fatal("the busy loops do not end")
	}
	c.all("a", "b", "c")
	c.onlyTouched(fault, before, "a")
	c.note("%d of %d resources were touched", len(c.touched(fault, before)), len(before))
}

// stuttering runs a member for a tenth of the time only. It counts as alive in the journal, too: no other member may
// handle what it handles.
func (c *chaos) stuttering() {
	before := c.begin(200, "a", "b")
	fault := c.now()
	const period = 200 * time.Millisecond
	for over := fault.at.Add(15 * time.Second); time.Now().Before(over); {
		freeze(c.t, c.agents["a"])
		c.lasts(period * 9 / 10)
		thaw(c.t, c.agents["a"])
		c.lasts(period / 10)
	}
	c.allocate("afterwards")
	c.all("a", "b")
	c.onlyTouched(fault, before, "a")
	c.note("%d of %d resources were touched", len(c.touched(fault, before)), len(before))
}

// signal sends an agent a signal, and returns when that was.
func (c *chaos) signal(id string, s syscall.Signal) time.Time {
	c.t.Helper()
	if err := c.agents[id].cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
	return time.Now()
}

// ends waits for the end of an agent, and returns how long it took and the exit code, -1 where a signal ended it.
func (c *chaos) ends(id string, since time.Time) (took time.Duration, code int) {
	c.t.Helper()
	p := c.agents[id]
	select {
	case <-p.done:
	case <-time.After(e2ePatience):
		c.t.Fatalf("%s does not end", id)
	}
	return time.Since(since), p.cmd.ProcessState.ExitCode()
}
