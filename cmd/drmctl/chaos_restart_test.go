//go:build unix

package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"syscall"
	"time"

	"github.com/distributed-resource-manager/drm/internal/journal"
)

// In these scenarios members stop and start.

var restartScenarios = []scenario{
	{"every member restarted in turn, 1,000 resources", true, 1, (*chaos).rolling},
	{"SIGTERM at any moment of the start", true, 1, (*chaos).stoppedWhileStarting},
	{"SIGTERM twice, while the service does not answer, TTL 3 s", true, 1, (*chaos).terminatedTwice},
	{"SIGTERM with etcd gone, TTL 5 s", true, 1, (*chaos).terminatedWithoutEtcd},
}

// rolling restarts every member again and again. Nothing may wait for a lease to expire: a resource may be unhandled
// for the time of a handover only. The run itself tells how long that is on this machine: a usual restart takes the
// median, in which all of a member's resources have gone and come back.
func (c *chaos) rolling() {
	rounds := 2
	if c.long {
		rounds = 20
	}
	members := []string{"a", "b", "c"}
	before := c.begin(e2eResources, members...)
	var took []time.Duration
	for range rounds {
		for _, id := range members {
			restart := c.now()
			c.terminate(id)
			c.start(id)
			after := c.all(members...)
			c.onlyTouched(restart, before, id)
			for r, m := range before {
				if after[r] != m {
					c.t.Fatalf("%s was with %s, and is with %s after %s was restarted", r, m, after[r], id)
				}
			}
			took = append(took, c.took(restart))
		}
	}
	slices.Sort(took)
	c.takeover = took[len(took)-1]
	median := took[len(took)/2]
	_, gap := journal.LongestGap(c.journal.Events())
	// A member that lets a resource go unhandled for 4/5 of the TTL may as well have died.
	if bound := min(max(time.Second, 3*median), c.ttl*4/5); gap > bound {
		c.t.Errorf("a resource was unhandled for %v, want %v, where a restart takes %v", gap, bound, median)
	}
	c.note("%d restarts; the time is that of the slowest, from SIGTERM until all were back, and the median %s; none "+
		"may be unhandled for longer than 1 s or three times that",
		len(took), seconds(median))
}

// stoppedWhileStarting sends SIGTERM at moments from before main to after the member is ready. Such a member leaves
// nothing behind that had to expire.
func (c *chaos) stoppedWhileStarting() {
	c.begin(200, "a")
	began := time.Now()
	c.start("b")
	c.all("a", "b")
	ready := time.Since(began) // a little more than a start takes: the member also has its resources
	c.terminate("b")

	moments := 12
	if c.long {
		moments = 40
	}
	c.ttl = time.Minute // so long that whatever waits for an expiry fails
	var slowest time.Duration
	killed, clean := 0, 0
	for i := range moments {
		id := fmt.Sprintf("s%02d", i)
		c.start(id)
		c.lasts(ready * time.Duration(i) / time.Duration(moments))
		took, code := c.ends(id, c.signal(id, syscall.SIGTERM))
		slowest = max(slowest, took)
		switch code {
		case exitFine:
			clean++
		case -1: // the signal came before the agent listened to signals
			killed++
		default:
			c.t.Errorf("%s: exit code %d: %s", id, code, c.agents[id].log.last())
		}
		stopped := time.Now()
		c.all("a")
		if back := time.Since(stopped); back > c.ttl/2 {
			c.t.Errorf("%s: all was with the other member only %v after it had ended", id, back)
		}
	}
	if clean == 0 {
		c.t.Error("none was old enough to stop in good order: the test shows nothing")
	}
	c.note("%d moments in %s; %d ended before they listened, %d in good order, the slowest after %s",
		moments, seconds(ready), killed, clean, seconds(slowest))
}

// terminatedTwice has a member whose service does not answer, so that the member cannot end in order. A second signal
// ends it all the same, with exit code 1, and its claims expire.
func (c *chaos) terminatedTwice() {
	c.ttl = faultTTL
	c.fill(200)
	asked := make(chan struct{}, 1)
	c.front = func(receiver http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return // the member is gone
			}
			if bytes.Contains(body, []byte(`"action":"terminate"`)) {
				select {
				case asked <- struct{}{}:
				default:
				}
				<-req.Context().Done()
				return
			}
			req.Body = io.NopCloser(bytes.NewReader(body))
			receiver.ServeHTTP(w, req)
		})
	}
	c.start("a")
	c.front = nil
	c.start("b")
	before := c.all("a", "b")

	fault := c.now()
	c.signal("a", syscall.SIGTERM)
	select {
	case <-asked:
	case <-time.After(e2ePatience):
		c.t.Fatal("it does not begin to end")
	}
	c.lasts(signalPause + 500*time.Millisecond) // a signal that follows sooner counts as the same one
	second := c.signal("a", syscall.SIGTERM)
	took, code := c.ends("a", second)
	if code != exitFailed {
		c.t.Errorf("exit code %d, want %d: %s", code, exitFailed, c.agents["a"].log.last())
	}
	c.sessions["a"].End("a", time.Time{})
	c.all("b")
	c.takeover = c.took(mark{fault.events, second})
	c.onlyTouched(fault, before, "a")
	c.note("it had ended %s after the second signal, with exit code %d; the time is from then", seconds(took), code)
}

// terminatedWithoutEtcd stops members while etcd is away, so that they can tell nobody.
func (c *chaos) terminatedWithoutEtcd() {
	c.begin(200, "a", "b")
	fault := c.now()
	c.etcd[0].end()
	for _, id := range []string{"a", "b"} {
		c.signal(id, syscall.SIGTERM)
	}
	var slowest time.Duration
	for _, id := range []string{"a", "b"} {
		took, code := c.ends(id, fault.at)
		slowest = max(slowest, took)
		if code != exitFine {
			c.t.Errorf("%s: exit code %d: %s", id, code, c.agents[id].log.last())
		}
	}
	if held := c.follower.Holders(); len(held) > 0 {
		c.t.Errorf("%d resources were not terminated", len(held))
	}
	if ended := c.ended(fault); ended > c.ttl {
		c.t.Errorf("ended %v after etcd was gone, with a TTL of %v", ended, c.ttl)
	}
	c.note("everything had ended after %s, the members after %s", seconds(c.ended(fault)), seconds(slowest))
	back := c.now()
	c.etcd[0].begin()
	c.start("c")
	c.all("c")
	c.takeover = c.took(back)
	c.note("the time is from etcd's start, with another member")
}
