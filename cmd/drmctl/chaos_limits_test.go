//go:build unix

package main

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/distributed-resource-manager/drm/internal/journal"
)

// These scenarios are deaths of members that have limits: how many resources they have, and how often they begin with
// one.

var limitScenarios = []scenario{
	{
		"SIGKILL, where all resources go to one service that takes 500 a second (`--key-rate`)", true, 1,
		(*chaos).keepsRate,
	},
	{"SIGKILL, where no member has more than 60 of 100 resources (`--max-resources`)", true, 1, (*chaos).keepsCeilings},
}

// arrivals are the times at which handles came.
type arrivals struct {
	mu sync.Mutex
	at []time.Time
}

// most returns how many arrivals there were within a span of time, at most.
func (a *arrivals) most(span time.Duration) (most int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	slices.SortFunc(a.at, time.Time.Compare)
	from := 0
	for to, at := range a.at {
		for at.Sub(a.at[from]) > span {
			from++
		}
		most = max(most, to-from+1)
	}
	return most
}

// keepsRate kills one of three members, whose resources all have the same key. Requests arrive a little later or
// sooner one after the other than they are sent, so the rate is judged over two seconds.
func (c *chaos) keepsRate() {
	n, rate := 1_000, 100
	if c.long {
		n, rate = 10_000, 500
	}
	burst := rate / 10
	c.flags = append(c.flags, "--key-rate", fmt.Sprintf("%d/%d", rate, burst), "--budget-key", "url-host:url")
	var came arrivals
	c.service(func(string, <-chan struct{}) bool {
		came.mu.Lock()
		defer came.mu.Unlock()
		came.at = append(came.at, time.Now())
		return true
	})
	c.begin(n, "a", "b", "c")
	fault := c.now()
	fault.at = c.kill("b")
	c.all("a", "c")
	c.takeover = c.took(fault)
	if got, allowed := came.most(2*time.Second), 2*rate+burst+rate/4; got > allowed {
		c.t.Errorf("%d handles within 2 s, want at most %d", got, allowed)
	}
	c.note("%d taken over; at most %d handles within a second, of %d that are allowed",
		came.since(fault.at), came.most(time.Second), rate+burst)
}

// since counts the arrivals after a moment.
func (a *arrivals) since(t time.Time) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, at := range a.at {
		if at.After(t) {
			n++
		}
	}
	return n
}

// keepsCeilings kills one of three members, so that the others are nearly full, and starts it again.
func (c *chaos) keepsCeilings() {
	const most = 60
	c.flags = append(c.flags, "--max-resources", fmt.Sprint(most))
	c.begin(100, "a", "b", "c")
	fault := c.now()
	fault.at = c.kill("b")
	c.all("a", "c")
	c.takeover = c.took(fault)
	c.start("b")
	c.all("a", "b", "c")
	has, top := map[string]int{}, map[string]int{}
	for _, e := range c.journal.Events() {
		switch e.Action {
		case journal.Started:
			has[e.Member] = 0
		case journal.Handle:
			has[e.Member]++
		case journal.Terminate:
			has[e.Member]--
		default:
		}
		if top[e.Member] = max(top[e.Member], has[e.Member]); top[e.Member] == most+1 {
			c.t.Errorf("%s has more than %d", e.Member, most)
		}
	}
	c.note("at most %d, %d and %d were handled by one member", top["a"], top["b"], top["c"])
}
