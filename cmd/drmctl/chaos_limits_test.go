//go:build unix

package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/journal"
)

// These scenarios are deaths of members that have limits: how many resources they have, and how often they begin with
// one.

var limitScenarios = []scenario{
	{
		"SIGKILL, where all resources go to one service that takes 500 a second (`--key-rate`), and back", true, 1,
		(*chaos).keepsRate,
	},
	{
		"SIGKILL, where no member has more than 40 of 100 resources (`--max-resources`), and back", true, 1,
		(*chaos).keepsCeilings,
	},
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

// tooFast looks at all spans from one arrival to another one. In a span there may be the burst, and as many as the rate
// allows in that time. It returns how much longer the worst span would have to be for what came in it: 0 or less if the
// rate holds exactly for each of them. What is seen in a pause of this process, or soon after it, may have come at the
// pause's beginning: all that came meanwhile is seen then, one after the other.
func (a *arrivals) tooFast(rate, burst int, pauses []pause) (by time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	slices.SortFunc(a.at, time.Time.Compare)
	each := time.Second / time.Duration(rate)
	by, from := -time.Hour, -time.Hour // from: for the worst beginning of a span so far, its time less what came before
	for i, at := range a.at {
		for len(pauses) > 0 && pauses[0].over().Before(at) {
			pauses = pauses[1:]
		}
		began := at
		if len(pauses) > 0 && pauses[0].from.Before(at) {
			began = pauses[0].from
		}
		due := time.Duration(i) * each
		from = max(from, began.Sub(a.at[0])-due)
		by = max(by, due+time.Duration(1-burst)*each-at.Sub(a.at[0])+from)
	}
	return by
}

func TestTooFast(t *testing.T) {
	const rate, burst = 100, 10
	begin := time.Now()
	after := func(d time.Duration) time.Time { return begin.Add(d) }
	var steady arrivals // the burst, and then as many as the rate allows
	for i := range 1000 {
		steady.at = append(steady.at, after(time.Duration(max(0, i+1-burst))*time.Second/rate))
	}
	for _, test := range []struct {
		name   string
		more   int // arrivals in the middle
		pauses []pause
		want   time.Duration
	}{
		{"as allowed", 0, nil, 0},
		{"5 too many", 5, nil, 5 * time.Second / rate},
		{"5 too many after a pause", 5, []pause{{after(time.Second), after(2 * time.Second)}}, 5 * time.Second / rate},
	} {
		t.Run(test.name, func(t *testing.T) {
			came := arrivals{at: slices.Clone(steady.at)}
			for range test.more {
				came.at = append(came.at, after(5*time.Second))
			}
			if got := came.tooFast(rate, burst, test.pauses); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
	t.Run("all at once after a pause", func(t *testing.T) {
		paused := []pause{{after(0), after(time.Second)}}
		var came arrivals
		for range rate + burst {
			came.at = append(came.at, after(1100*time.Millisecond))
		}
		if got := came.tooFast(rate, burst, paused); got > 0 {
			t.Errorf("%v, want no more than 0", got)
		}
		if got, want := came.tooFast(rate, burst, nil), time.Second; got != want {
			t.Errorf("without the pause: %v, want %v", got, want)
		}
	})
}

// pause is a time in which this process did not run.
type pause struct{ from, to time.Time }

// over is when all that came in the pause has been seen: this is given as long as the pause took.
func (p pause) over() time.Time { return p.to.Add(p.to.Sub(p.from)) }

// pauses notes, until the test ends, when this process does not run. The pauses that it returns are in order.
func (c *chaos) pauses() (all func() []pause) {
	const tick = 2 * time.Millisecond
	var mu sync.Mutex
	var list []pause
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for last := time.Now(); ; {
			select {
			case <-time.After(tick):
			case <-over:
				return
			}
			now := time.Now()
			if now.Sub(last) > 2*tick {
				mu.Lock()
				if n := len(list); n > 0 && list[n-1].to.Equal(last) {
					list[n-1].to = now // what waited is still being done
				} else {
					list = append(list, pause{last, now})
				}
				mu.Unlock()
			}
			last = now
		}
	}()
	c.t.Cleanup(func() { close(over); <-ended })
	return func() []pause {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(list)
	}
}

// keepsRate kills one of three members, whose resources all have the same key, and starts it again. The rate must hold
// in every span of time of the whole run. Requests arrive a little after their members have counted them, some of them
// later than others. So a span in which handles arrive may be shorter than the one in which they were counted, by the
// time for which a request is on its way. That is a few milliseconds; on a busy machine it may be more.
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
	pauses := c.pauses()
	c.begin(n, "a", "b", "c")
	fault := c.now()
	fault.at = c.kill("b")
	c.all("a", "c")
	c.takeover = c.took(fault)
	taken := came.since(fault.at)
	c.start("b")
	c.all("a", "b", "c")
	by := came.tooFast(rate, burst, pauses())
	if allowed := 50 * time.Millisecond; by > allowed {
		c.t.Errorf("handles came as fast as if a span of time were %v longer than it was, want at most %v", by, allowed)
	}
	for _, s := range []int{1, 2, 5, 10} {
		span := time.Duration(s) * time.Second
		c.t.Logf("at most %d handles in %v, of %d", came.most(span), span, rate*s+burst)
	}
	c.note("%d taken over; at most %d handles within a second, of %d that are allowed; in each span of the whole run, "+
		"however long, no more than the rate and the burst allow in a span that is %.0f ms longer",
		taken, came.most(time.Second), rate+burst, 1e3*max(0, by).Seconds())
}

// keepsCeilings kills one of three members, so that the others have too little room for everything, and starts it
// again.
func (c *chaos) keepsCeilings() {
	const (
		n    = 100
		most = 40
		room = 2 * most // of the two that are left
	)
	c.flags = append(c.flags, "--max-resources", fmt.Sprint(most))
	c.begin(n, "a", "b", "c")
	fault := c.now()
	fault.at = c.kill("b")
	full := func() error {
		held := c.follower.Holders()
		s, ok := c.status()
		if len(held) == room && ok && s.Active == room && s.Unassigned == n-room && s.NoRoom == n-room {
			return nil
		}
		return fmt.Errorf("%d resources are handled, want %d, and the others without room: %+v", len(held), room, s)
	}
	eventually(c.t, full)
	c.takeover = c.took(fault)
	c.lasts(3 * time.Second) // nothing changes while there is no room
	eventually(c.t, full)
	waiting := get[[]assignmentJSON](c.lab, "assignments", "--unassigned")
	for _, a := range waiting {
		if a.State != "unassigned" || a.Member != "" || !strings.HasPrefix(a.Error, "there is no room: ") {
			c.t.Errorf("%+v", a)
		}
	}
	if len(waiting) != n-room {
		c.t.Errorf("%d resources are unassigned, want %d", len(waiting), n-room)
	}
	back := c.now()
	c.start("b")
	c.all("a", "b", "c")
	top := c.ceilings()
	for id, has := range top {
		if has > most {
			c.t.Errorf("%s had %d, and may have %d", id, has, most)
		}
	}
	c.note("the two that were left had %d and %d; the other %d were unassigned, and said that there is no room; all "+
		"were handled %s after the third was back; it had %d at most",
		top["a"], top["c"], len(waiting), seconds(c.took(back)), top["b"])
}

// ceilings returns how many resources each member has handled at once, at most.
func (c *chaos) ceilings() map[string]int {
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
		top[e.Member] = max(top[e.Member], has[e.Member])
	}
	return top
}
