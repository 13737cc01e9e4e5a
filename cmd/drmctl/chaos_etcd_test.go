//go:build unix

package main

import "time"

// Faults of etcd itself.

var etcdScenarios = []scenario{
	{"etcd killed, and started again on its data, TTL 3 s", true, 1, (*chaos).etcdKilled},
	{"etcd killed, and started again at once", false, 1, (*chaos).etcdRestarted},
	{"etcd stopped (SIGSTOP) for longer than the TTL (3 s), then SIGCONT", true, 1, (*chaos).etcdStopped},
	{"3-node etcd: its leader killed, then back", true, 3, func(c *chaos) {
		c.loses(true, func(n *node) { n.end() }, func(n *node) { n.begin() })
	}},
	{"3-node etcd: its leader stopped (SIGSTOP) for longer than the TTL (5 s), then SIGCONT", true, 3, func(c *chaos) {
		c.loses(true, func(n *node) { freeze(n.t, n.process) }, c.wake)
	}},
	{"3-node etcd: a follower killed, then back", false, 3, func(c *chaos) {
		c.loses(false, func(n *node) { n.end() }, func(n *node) { n.begin() })
	}},
	{"3-node etcd: a follower stopped (SIGSTOP) for longer than the TTL (5 s), then SIGCONT", false, 3, func(c *chaos) {
		c.loses(false, func(n *node) { freeze(n.t, n.process) }, func(n *node) { thaw(n.t, n.process) })
	}},
	{"3-node etcd: its majority killed, then back, TTL 3 s", true, 3, (*chaos).majorityKilled},
}

// everythingEnds waits until nobody handles anything.
func (c *chaos) everythingEnds() {
	c.t.Helper()
	c.holders("everything has ended", func(held map[string]string) bool { return len(held) == 0 })
}

func (c *chaos) etcdKilled() {
	c.ttl = faultTTL
	c.begin(200, "a", "b")
	fault := c.now()
	c.etcd[0].end()
	c.everythingEnds()
	c.note("everything had ended after %s", seconds(c.ended(fault)))
	if ended := c.ended(fault); ended > c.ttl {
		c.t.Errorf("ended %v after etcd was gone, with a TTL of %v", ended, c.ttl)
	}
	back := c.now()
	c.etcd[0].begin()
	c.all("a", "b")
	c.takeover = c.took(back)
	c.note("the time is from etcd's start")
}

func (c *chaos) etcdRestarted() {
	before := c.begin(200, "a", "b")
	fault := c.now()
	c.etcd[0].end()
	c.etcd[0].begin()
	outage := answers(c.t, c.etcd...)
	c.lasts(2 * c.ttl)
	c.allocate("afterwards")
	c.all("a", "b")
	c.note("etcd answered again after %s; %d of %d resources were touched", seconds(outage),
		len(c.touched(fault, before)), len(before))
}

func (c *chaos) etcdStopped() {
	c.ttl = faultTTL
	c.begin(200, "a", "b")
	fault := c.now()
	freeze(c.t, c.etcd[0].process)
	c.everythingEnds()
	ended := c.ended(fault)
	if ended > c.ttl {
		c.t.Errorf("ended %v after etcd was stopped, with a TTL of %v", ended, c.ttl)
	}
	c.lasts(c.ttl) // the leases are past their end when etcd wakes
	back := c.now()
	thaw(c.t, c.etcd[0].process)
	c.all("a", "b")
	c.takeover = c.took(back)
	c.note("everything had ended after %s; the time is from SIGCONT", seconds(ended))
}

// loses takes one server away for longer than the TTL, which is the default. Members may not notice: where the other
// servers answer in time, no lease is fenced, and no resource is touched.
func (c *chaos) loses(leads bool, take, give func(*node)) {
	before := c.begin(200, "a", "b", "c")
	victim, others := roles(c.t, c.etcd)
	if !leads {
		victim, others = others[0], []*node{victim, others[1]}
	}
	fault := c.now()
	take(victim)
	outage := answers(c.t, others...)
	c.lasts(c.ttl + 2*time.Second)
	c.allocate("meanwhile")
	c.untouched(fault, before, outage)
	c.note("the others agreed again after %s; %d of %d resources were touched", seconds(outage),
		len(c.touched(fault, before)), len(before))
	back := c.now()
	give(victim)
	answers(c.t, victim)
	c.lasts(c.ttl) // time in which a former leader that believes that it still leads would do harm
	c.allocate("afterwards")
	c.all("a", "b", "c")
	if c.blinks.IsZero() {
		c.untouched(back, before, 0)
	} else if touched := len(c.touched(back, before)); touched > 0 {
		c.takeover = c.took(back)
		c.note("at its return the former leader revoked live leases (etcd issue 15247): %d resources were ended and "+
			"begun anew; the time is from then", touched)
	}
}

// untouched fails the test where a member did anything to a resource since the mark, unless etcd was away for so long
// that members had to fence their leases: 0.6 to 0.8 TTL after its last answer.
func (c *chaos) untouched(m mark, before map[string]string, outage time.Duration) {
	c.t.Helper()
	if touched := len(c.touched(m, before)); touched > 0 && outage < c.ttl/2 {
		c.t.Errorf("%d resources were touched, though etcd was away for only %v, with a TTL of %v", touched, outage,
			c.ttl)
	} else if touched > 0 {
		c.note("etcd was away for %s: %d resources had to be ended", seconds(outage), touched)
	}
}

// wake lets a server go on that was stopped while it led. It may then revoke leases that are alive, since it believes
// for a moment that it still leads. Until the members hear of that, two may handle one resource.
func (c *chaos) wake(n *node) {
	c.blink()
	thaw(n.t, n.process)
}

func (c *chaos) majorityKilled() {
	c.ttl = faultTTL
	c.begin(200, "a", "b", "c")
	leader, followers := roles(c.t, c.etcd)
	fault := c.now()
	leader.end()
	followers[0].end()
	c.everythingEnds()
	ended := c.ended(fault)
	if ended > c.ttl {
		c.t.Errorf("ended %v after etcd lost its majority, with a TTL of %v", ended, c.ttl)
	}
	back := c.now()
	leader.begin()
	followers[0].begin()
	c.all("a", "b", "c")
	c.takeover = c.took(back)
	c.note("everything had ended after %s; the time is from the servers' start", seconds(ended))
}
