//go:build unix

package main

import (
	"time"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/faultproxy"
	"github.com/distributed-resource-manager/drm/internal/journal"
)

// These scenarios are faults of the network between one member and etcd.

var networkScenarios = []scenario{
	{"a member's connections reset every 200 ms, 10 s", true, 1, (*chaos).resets},
	{
		"a member's network swallows everything, TTL 3 s", true, 1,
		func(c *chaos) { c.cutOff((*faultproxy.Proxy).BlackHole) },
	},
	{"a member's network swallows what it sends, TTL 3 s", false, 1, func(c *chaos) {
		c.cutOff(func(p *faultproxy.Proxy) { p.Drop(faultproxy.ToTarget) })
	}},
	{"a member's network swallows what it is answered, TTL 3 s", true, 1, func(c *chaos) {
		c.cutOff(func(p *faultproxy.Proxy) { p.Drop(faultproxy.FromTarget) })
	}},
	{"a member's network is slow, 300 ms each way, and another member is killed", true, 1, (*chaos).slow},
	{"etcd is compacted while a member is cut off for less than its TTL (10 s)", true, 1, (*chaos).compacted},
}

// behindProxy lets members a and b share resources. a reaches etcd through a proxy.
func (c *chaos) behindProxy(n int) (*faultproxy.Proxy, map[string]string) {
	c.t.Helper()
	return c.behindProxyAs(nil, n)
}

// behindProxyAs is behindProxy with a helper of the test binary that runs a.
func (c *chaos) behindProxyAs(helper []string, n int) (*faultproxy.Proxy, map[string]string) {
	c.t.Helper()
	proxy, err := faultproxy.New(c.endpoints[0])
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(proxy.Close)
	c.fill(n)
	c.startAs(helper, "a", "--endpoints", proxy.Endpoint())
	c.start("b")
	return proxy, c.all("a", "b")
}

func (c *chaos) resets() {
	proxy, before := c.behindProxy(200)
	fault := c.now()
	for over := fault.at.Add(10 * time.Second); time.Now().Before(over); {
		proxy.Reset()
		c.lasts(200 * time.Millisecond)
	}
	c.allocate("afterwards")
	c.all("a", "b")
	c.onlyTouched(fault, before, "a")
	c.note("%d of %d resources were touched", len(c.touched(fault, before)), len(before))
}

// cutOff cuts a off from etcd only, while a and its webhook live: a has to end what it handles before another member
// begins with it.
func (c *chaos) cutOff(cut func(*faultproxy.Proxy)) {
	c.cutOffAs(nil, cut)
}

// cutOffAs is cutOff with a helper of the test binary that runs a.
func (c *chaos) cutOffAs(helper []string, cut func(*faultproxy.Proxy)) {
	c.ttl = faultTTL
	proxy, before := c.behindProxyAs(helper, 200)
	fault := c.now()
	cut(proxy)
	c.allocate("meanwhile")
	c.all("b")
	c.takeover = c.took(fault)
	for r, handlings := range journal.Timeline(c.journal.Events()) {
		if before[r] == "a" && handlings[len(handlings)-2].End != journal.Terminate {
			c.t.Errorf("%s was taken over without a terminate of a", r)
		}
	}
	c.onlyTouched(fault, before, "a")
	c.note("it had ended everything after %s", seconds(c.ended(fault)))
	back := c.now()
	proxy.Heal()
	c.all("a", "b")
	c.note("and had it back %s after the network was", seconds(c.took(back)))
}

// slow lets a member take over through a slow network. It lists each shard that it takes over, which takes a round trip
// each, and a limited number at a time.
func (c *chaos) slow() {
	const (
		delay     = 300 * time.Millisecond
		roundTrip = 2 * delay
		places    = 64 // internal/follow makes at least so many lists at a time
	)
	proxy, before := c.behindProxy(200)
	slowed := c.now()
	proxy.Delay(delay)
	proxy.Reset() // makes a connect anew: the new connections are slow from the beginning
	c.lasts(2 * c.ttl)
	c.allocate("meanwhile")
	c.all("a", "b")
	c.note("%d of %d resources were touched before the kill", len(c.touched(slowed, before)), len(before))
	shards := 0
	for _, m := range get[[]memberJSON](c.lab, "members") {
		if m.ID == "b" {
			shards = m.Shards
		}
	}
	fault := c.now()
	fault.at = c.kill("b")
	c.all("a")
	c.takeover = c.took(fault)
	c.onlyTouched(fault, before, "b")
	// The news of the death, the watch and the claim take three round trips besides the lists. All of it may take twice
	// as long on a busy machine.
	bound := c.ttl + time.Second + 2*(time.Duration(shards)*roundTrip/places+3*roundTrip)
	c.note("%d shards were taken over", shards)
	if shards == 0 || c.takeover > bound {
		c.t.Errorf("%d shards were taken over after %v, want %v", shards, c.takeover, bound)
	}
}

// compacted lets a member come back after etcd has compacted the history: it has to list what it missed.
func (c *chaos) compacted() {
	c.ttl = 10 * time.Second
	proxy, before := c.behindProxy(200)
	fault := c.now()
	proxy.BlackHole()
	for _, id := range numbered("meanwhile", 20) { // some of them are a's
		c.allocate(id)
	}
	c.ok("deallocate", "meanwhile-01")
	c.wanted = c.wanted[:len(c.wanted)-20]
	c.wanted = append(c.wanted, numbered("meanwhile", 20)[1:]...)
	client := embeddedtest.Client(c.t, c.endpoints...)
	now, err := client.Get(c.t.Context(), "k")
	if err == nil {
		_, err = client.Compact(c.t.Context(), now.Header.Revision)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	back := c.now()
	proxy.Heal()
	after := c.all("a", "b")
	if touched := c.touched(fault, before); back.at.Sub(fault.at) < c.ttl/2 && len(touched) > 0 {
		c.t.Errorf("%d resources were touched, by a cut of %v with a TTL of %v", len(touched), back.at.Sub(fault.at),
			c.ttl)
	}
	news := 0
	for r, m := range after {
		if before[r] == "" && m == "a" {
			news++
		}
	}
	if news == 0 {
		c.t.Error("the member that was cut off missed nothing: the test shows nothing")
	}
	c.note("cut off for %s; the %d resources that came meanwhile were handled %s after the network was back",
		seconds(back.at.Sub(fault.at)), news, seconds(c.took(back)))
}
