package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/distributed-resource-manager/drm/internal/journal"
)

// These scenarios are faults of agents under drmctl run.

var runScenarios = []scenario{
	{"SIGKILL under drmctl run, TTL 5 s, 1,000 resources", true, 1, (*chaos).killedUnderRun},
	{"the same, with processes (exec) that have forked away, and a restart", true, 1, (*chaos).killedWithRunaways},
	{
		"a new resource kills each of 4 members under drmctl run that handles it, TTL 10 s", true, 1,
		(*chaos).poisonUnderRun,
	},
	{"SIGSTOP under drmctl run, for longer than the TTL (3 s), then SIGCONT", true, 1, (*chaos).stoppedUnderRun},
	{"SIGKILL of drmctl run, whose agent goes on, and then of the agent, TTL 3 s", true, 1, (*chaos).bothKilledInTurn},
	{"SIGKILL of drmctl run and of its agent at once, TTL 3 s", false, 1, (*chaos).bothKilledAtOnce},
}

// startUnder starts an agent under drmctl run, with flags of run.
func (c *chaos) startUnder(run []string, id string, more ...string) {
	c.t.Helper()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	helper := append([]string{"run", "--endpoints", strings.Join(c.endpoints, ",")}, run...)
	c.startAs(append(helper, "--", self), id, more...)
	c.t.Cleanup(func() { // the agent goes on without its supervisor
		for _, pid := range startedPIDs(c.logs[id]) {
			if line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.Contains(string(line), "agent") {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
}

// beginUnder lets members share n resources, of which the first is under drmctl run.
func (c *chaos) beginUnder(run []string, n int, members ...string) (before map[string]string) {
	c.t.Helper()
	c.fill(n)
	c.startUnder(run, members[0], "--stop-on-eof=false") // else it would notice the end of its supervisor by its stdin
	for _, id := range members[1:] {
		c.start(id)
	}
	before = c.settled(n, members...)
	c.t.Cleanup(removeHome(c.agentPID(members[0])))
	return before
}

// agentPID returns the process of an agent under drmctl run.
func (c *chaos) agentPID(id string) int {
	c.t.Helper()
	pids := startedPIDs(c.logs[id])
	if len(pids) == 0 {
		c.t.Fatalf("%s was not started: %s", id, c.logs[id].all())
	}
	return pids[len(pids)-1]
}

// killAgent ends an agent under drmctl run with SIGKILL, and returns when that was. The agent's receiver ends what it
// had, as soon as the agent is dead.
func (c *chaos) killAgent(id string) time.Time {
	c.t.Helper()
	pid := c.agentPID(id)
	began := time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		c.t.Fatal(err)
	}
	c.inState(pid, "", "Z", "X")
	c.sessions[id].End(id, time.Now())
	return began
}

// inState waits until a process is in one of some states; "" is one that is gone.
func (c *chaos) inState(pid int, states ...string) {
	c.t.Helper()
	for late := time.After(e2ePatience); ; {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		state := string(text[strings.LastIndexByte(string(text), ')')+1:])
		state = state[:min(len(state), 2)]
		for _, s := range states {
			if strings.TrimSpace(state) == s {
				return
			}
		}
		select {
		case <-time.After(time.Millisecond / 4):
		case <-late:
			c.t.Fatalf("process %d is in state %q, want one of %q", pid, state, states)
		}
	}
}

// firstAfter returns the time from a mark to the first handle of a resource that a member had.
func (c *chaos) firstAfter(m mark, before map[string]string, member string) time.Duration {
	first := time.Hour
	for _, e := range c.since(m.events) {
		if before[e.Resource] == member && e.Action == journal.Handle {
			first = min(first, e.Time.Sub(m.at))
		}
	}
	return first
}

// killedUnderRun measures how soon the resources of a killed agent are handled again. It does not wait for an expiry,
// whatever the machine does.
func (c *chaos) killedUnderRun() {
	c.ttl = 5 * time.Second
	before := c.beginUnder([]string{"--no-restart"}, e2eResources, "a", "b", "c")
	fault := c.now()
	fault.at = c.killAgent("a")
	c.all("b", "c")
	c.takeover = c.took(fault)
	c.onlyTouched(fault, before, "a")
	if bound := c.ttl * 4 / 5; c.firstAfter(fault, before, "a") >= bound {
		c.t.Errorf("nothing was handled again within %v, before any expiry", bound)
	}
	if _, code := c.ends("a", fault.at); code != 128+int(syscall.SIGKILL) {
		c.t.Errorf("drmctl run ended with exit code %d", code)
	}
	c.note("%d resources, without any expiry", len(c.touched(fault, before)))
}

// killedWithRunaways kills an agent whose processes have started others, in sessions of their own, which lost their
// parents. The journal hears of these themselves when they begin and end. None may begin before all of them are gone.
// What counts is the time from then until each resource of the dead agent has a process again.
func (c *chaos) killedWithRunaways() {
	c.ttl = time.Minute // nothing expires meanwhile
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	command := fmt.Sprintf(`sh -c "setsid -f '%s' %s %s; exec sleep 1000"`, self, asLeash, leash(c.t, c.journal))
	const n = 20
	c.fill(n)
	c.startUnder(nil, "a", "--handler-url", "", "--handler-exec", command)
	c.start("b", "--handler-url", "", "--handler-exec", command)
	before := c.all("a", "b")
	fault := c.now()
	if err := syscall.Kill(c.agentPID("a"), syscall.SIGKILL); err != nil {
		c.t.Fatal(err)
	}
	eventually(c.t, func() error {
		if pids := startedPIDs(c.logs["a"]); len(pids) < 2 {
			return fmt.Errorf("the agent was not started again: processes %v", pids)
		}
		return nil
	})
	c.all("a", "b")

	var gone, first, last time.Time // the last of a's processes; the first and the last that began in their place
	had := 0
	for r, list := range journal.Timeline(c.journal.Events()) {
		if before[r] != "a" {
			continue
		}
		had++
		if len(list) < 2 || list[0].Open() {
			c.t.Fatalf("%s was not begun again after the end of its process: %+v", r, list)
		}
		if list[0].To.After(gone) {
			gone = list[0].To
		}
		if again := list[1].From; first.IsZero() || again.Before(first) {
			first = again
		}
		if again := list[1].From; again.After(last) {
			last = again
		}
	}
	c.takeover = last.Sub(fault.at)
	if first.Before(gone) {
		c.t.Errorf("a process began %v before the last one of the dead agent had ended", gone.Sub(first))
	}
	if took, bound := last.Sub(gone), c.ttl/10; took > bound {
		c.t.Errorf("all was handled again %v after everything of the agent was gone, want %v", took, bound)
	}
	c.note("all processes of its %d resources were dead after %s; the first was begun again %s after that, and the "+
		"last %s; TTL %.0f s; after its restart it had its own back %s after the kill",
		had, seconds(gone.Sub(fault.at)), seconds(first.Sub(gone)), seconds(last.Sub(gone)), c.ttl.Seconds(),
		seconds(c.took(fault)))
}

// poisonUnderRun is poison for members under drmctl run, whose claims end with them.
func (c *chaos) poisonUnderRun() {
	c.ttl = 10 * time.Second
	c.poison(poisoning{
		start: func(id string) { c.startUnder(nil, id, "--stop-on-eof=false") },
		die: func(id string) { // the receiver ends with its member, and is back before that
			c.killAgent(id)
			c.killReceiver(id)
			c.reviveReceiver(id)
		},
		age:    12 * time.Second,
		within: 3 * time.Second, // long before any expiry
	})
}

// stoppedUnderRun stops an agent. It is not dead, so its leases have to expire.
func (c *chaos) stoppedUnderRun() {
	c.ttl = faultTTL
	before := c.beginUnder(nil, 200, "a", "b")
	fault := c.now()
	pid := c.agentPID("a")
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		c.t.Fatal(err)
	}
	c.inState(pid, "T")
	c.journal.Record(journal.Event{Member: "a", Action: journal.Gone})
	c.all("b")
	c.takeover = c.took(fault)
	c.onlyTouched(fault, before, "a")
	c.expired(fault, before)
	c.journal.Record(journal.Event{Member: "a", Action: journal.Started})
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		c.t.Fatal(err)
	}
	c.all("a", "b")
	if pids := startedPIDs(c.logs["a"]); len(pids) != 1 {
		c.t.Errorf("the agent was started again, though it was only stopped: processes %v", pids)
	}
}

// expired checks that what the agent a had was handled again only after its leases had expired.
func (c *chaos) expired(m mark, before map[string]string) {
	c.t.Helper()
	if first, bound := c.firstAfter(m, before, "a"), c.ttl*4/5; first < bound {
		c.t.Errorf("a resource was handled again after %v, and its claim lived for %v at least", first, bound)
	}
}

// bothKilledInTurn kills a supervisor. Its agent goes on, and is noticed only by its expiry when it dies.
func (c *chaos) bothKilledInTurn() {
	c.ttl = faultTTL
	before := c.beginUnder(nil, 200, "a", "b")
	pid := c.agentPID("a")
	alone := c.now()
	if err := c.agents["a"].cmd.Process.Kill(); err != nil { // its output ends with the agent
		c.t.Fatal(err)
	}
	eventually(c.t, func() error {
		if !strings.Contains(c.logs["a"].all(), "the supervisor is gone") {
			return fmt.Errorf("the agent does not say that its supervisor is gone: %s", c.logs["a"].warnings(5))
		}
		return nil
	})
	c.allocate("meanwhile")
	c.all("a", "b")
	if touched := c.touched(alone, before); len(touched) > 0 {
		c.t.Errorf("%d resources were touched when the supervisor died", len(touched))
	}
	fault := c.now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		c.t.Fatal(err)
	}
	c.inState(pid, "", "Z", "X")
	c.sessions["a"].End("a", time.Now())
	c.all("b")
	c.takeover = c.took(fault)
	c.expired(fault, before)
	c.note("nothing was touched when drmctl run died")
}

// bothKilledAtOnce kills a supervisor and its agent, as the end of a container does.
func (c *chaos) bothKilledAtOnce() {
	c.ttl = faultTTL
	before := c.beginUnder(nil, 200, "a", "b")
	pid := c.agentPID("a")
	fault := c.now()
	if err := c.agents["a"].cmd.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		c.t.Fatal(err)
	}
	c.inState(pid, "", "Z", "X")
	c.sessions["a"].End("a", time.Now())
	c.all("b")
	c.takeover = c.took(fault)
	c.expired(fault, before)
}
