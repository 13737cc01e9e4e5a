//go:build unix

package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/journal"
)

// The chaos suite puts real processes through real faults. It judges by a journal, which the webhooks' receivers, one
// for each member, tell what they run. A resource must never run in two receivers at once, or under a token that falls,
// and must not run in none at the end. Receivers look at some requests late, at some of these after the member has
// given them up. `make chaos` runs the suite, and prints the table of docs/guarantees.md.

const (
	// chaosForm, in the environment, is "short" or "long". Without it the suite is skipped, since it takes too long for
	// every change.
	chaosForm = "DRM_CHAOS"
	// chaosTable, in the environment, names a file that the table is written to.
	chaosTable = "DRM_CHAOS_TABLE"
)

// scenario is one fault.
type scenario struct {
	fault string // the fault's name in the table
	short bool   // whether the scenario is part of the short form
	nodes int    // how many etcd servers it needs; 0: it starts its own
	play  func(*chaos)
}

var scenarios = slices.Concat(memberScenarios, networkScenarios, etcdScenarios, storeScenarios, handScenarios,
	serviceScenarios, processScenarios, usersScenarios, restartScenarios, leaveScenarios, lateScenarios, readyScenarios,
	runScenarios, receiverScenarios, limitScenarios, poisonScenarios, calmScenarios)

// chaos is a theatre in which a fault happens, with what was measured.
type chaos struct {
	*theatre
	etcd     []*node
	long     bool
	wanted   []string // what should be handled at the end
	over     int      // how many events there were at the end, before all members left; 0 before the end
	takeover time.Duration
	notes    []string
}

func TestChaos(t *testing.T) {
	form := os.Getenv(chaosForm)
	if form == "" {
		t.Skip("it takes minutes: make chaos")
	}
	rows := make([]string, len(scenarios))  // one that is skipped has none
	t.Cleanup(func() { tabulate(t, rows) }) // this runs after the scenarios that run at once
	for n, s := range scenarios {
		if form == "long" || s.short {
			t.Run(s.fault, func(t *testing.T) {
				// Most of its time a scenario waits. The long form measures, so its scenarios run one after the other.
				if form != "long" {
					t.Parallel()
				}
				c := &chaos{long: form == "long"}
				defer func() {
					if !t.Skipped() {
						rows[n] = c.row(t, s.fault)
					}
				}()
				c.on(t, newEtcd(t, s.nodes))
				s.play(c)
				c.end()
			})
		}
	}
}

// tabulate logs the table, and writes it to the file that the environment names.
func tabulate(t *testing.T, rows []string) {
	table := "| fault | time to take over | longest time unhandled | overlaps | lost | falling tokens | besides |\n" +
		"|---|---|---|---|---|---|---|\n"
	for _, row := range rows {
		if row != "" {
			table += row + "\n"
		}
	}
	t.Logf("\n%s", table)
	if file := os.Getenv(chaosTable); file != "" {
		if err := os.WriteFile(file, []byte(table), 0o600); err != nil {
			t.Error(err)
		}
	}
}

// on gives the scenario a theatre on an etcd of its own, in processes, and the default TTL.
func (c *chaos) on(t *testing.T, etcd []*node) {
	t.Helper()
	c.etcd = etcd
	c.theatre = newTheatreAt(t, endpoints(etcd)...)
	c.lateness(8, 20*time.Millisecond)
}

// lateness makes receivers look at one in so many requests late, by most at most.
func (c *chaos) lateness(oneIn int, most time.Duration) {
	c.late = func() time.Duration {
		if rand.IntN(oneIn) > 0 {
			return 0
		}
		return rand.N(most)
	}
}

// begin lets the members share n resources of the source, and returns who handles what.
func (c *chaos) begin(n int, members ...string) map[string]string {
	c.t.Helper()
	c.fill(n)
	for _, id := range members {
		c.start(id)
	}
	return c.settled(len(c.wanted), members...)
}

func (c *chaos) fill(n int) {
	c.wanted = numbered("r", n)
	c.source.fill(c.wanted)
}

// allocate allocates a resource. It is wanted from the moment when etcd has acknowledged it.
func (c *chaos) allocate(id string) {
	c.t.Helper()
	eventually(c.t, func() error {
		got := drmctl(c.t.Context(), append(c.args(), "--command-timeout", "5s", "allocate", "--id", id)...)
		if got.code != exitFine {
			return fmt.Errorf("allocate %s: %s", id, got.stderr)
		}
		return nil
	})
	c.wanted = append(c.wanted, id)
}

// all waits until these members share everything that is wanted.
func (c *chaos) all(members ...string) map[string]string {
	c.t.Helper()
	return c.settled(len(c.wanted), members...)
}

// end checks what is in etcd, and lets all members leave.
func (c *chaos) end() {
	c.t.Helper()
	if c.t.Failed() || len(c.running()) == 0 {
		return
	}
	eventually(c.t, func() error {
		if got := drmctl(c.t.Context(), append(c.args(), "verify")...); got.code != exitFine {
			return fmt.Errorf("verify: exit code %d: %s%s", got.code, got.stdout, got.stderr)
		}
		return nil
	})
	c.over = c.journal.Len()
	for _, id := range c.running() {
		c.terminate(id)
	}
	c.quiet()
	if held := c.follower.Holders(); len(held) > 0 {
		c.t.Errorf("%d resources are handled after everyone left", len(held))
	}
}

// running are the agents that have not ended.
func (c *chaos) running() []string {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(c.agents)) {
		select {
		case <-c.agents[id].done:
		default:
			ids = append(ids, id)
		}
	}
	return ids
}

// row judges the journal, and returns the scenario's line in the table, also where the scenario failed.
func (c *chaos) row(t *testing.T, fault string) string {
	if c.theatre == nil {
		return fmt.Sprintf("| %s | | | | | | **failed** |", fault)
	}
	events := c.journal.Events()
	if c.over > 0 {
		events = events[:c.over]
	}
	overlaps, lost, falling := c.judge(t, events)
	if t.Failed() {
		c.note("**failed**")
		for _, id := range slices.Sorted(maps.Keys(c.logs)) {
			t.Logf("%s logged:\n%s", id, c.logs[id].warnings(15))
		}
	}
	_, gap := journal.LongestGap(events)
	if _, blink := journal.LongestOverlap(events); !c.blinks.IsZero() {
		c.note("the longest overlap: %s", seconds(blink))
	}
	return fmt.Sprintf("| %s | %s | %s | %d | %d | %d | %s |",
		fault, seconds(c.takeover), seconds(gap), overlaps, lost, falling, strings.Join(c.notes, "; "))
}

// judge counts what is wrong in a journal, and fails the test for it.
func (c *chaos) judge(t *testing.T, events []journal.Event) (overlaps, lost, falling int) {
	for i, f := range journal.Check(events, journal.Expect{Resources: c.wanted}) {
		switch f.Kind {
		case journal.Overlap:
			overlaps++
			if !c.blinks.IsZero() && !f.Time.Before(c.blinks) {
				continue // the note tells of it
			}
		case journal.TokenBack:
			falling++
		case journal.Unhandled:
			lost++
		}
		if i < 10 {
			t.Error(f)
		} else if i == 10 {
			t.Error("and more of the kind")
		}
	}
	return overlaps, lost, falling
}

func (c *chaos) note(format string, args ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

// seconds is a duration as the table shows it; none is a dash.
func seconds(d time.Duration) string {
	if d == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

// mark is the moment of a fault: what the journal shows after it is the fault's effect.
type mark struct {
	events int
	at     time.Time
}

func (c *chaos) now() mark { return mark{c.journal.Len(), time.Now()} }

// blink returns the mark of now. From now on, overlaps are noted, and are no failures.
func (c *chaos) blink() mark {
	m := c.now()
	c.blinks = m.at
	return m
}

// took is the time from the mark to the last handle since.
func (c *chaos) took(m mark) time.Duration {
	var last time.Duration
	for _, e := range c.since(m.events) {
		if e.Action == journal.Handle {
			last = max(last, e.Time.Sub(m.at))
		}
	}
	return last
}

// ended is the time from the mark to the last terminate since.
func (c *chaos) ended(m mark) time.Duration {
	var last time.Duration
	for _, e := range c.since(m.events) {
		if e.Action == journal.Terminate {
			last = max(last, e.Time.Sub(m.at))
		}
	}
	return last
}

// touched returns which of the resources in before a member did anything to since the mark.
func (c *chaos) touched(m mark, before map[string]string) []string {
	touched := map[string]bool{}
	for _, e := range c.since(m.events) {
		if before[e.Resource] != "" {
			touched[e.Resource] = true
		}
	}
	return slices.Sorted(maps.Keys(touched))
}

// onlyTouched fails the test where, since the mark, a member did anything to what others than these members had before.
func (c *chaos) onlyTouched(m mark, before map[string]string, members ...string) {
	c.t.Helper()
	others := 0
	for _, r := range c.touched(m, before) {
		if !slices.Contains(members, before[r]) {
			others++
		}
	}
	if others > 0 {
		c.t.Errorf("%d resources of others than %v were touched", others, members)
	}
}

// lasts lets the fault go on for a while, in which no agent may end.
func (c *chaos) lasts(d time.Duration) {
	c.t.Helper()
	before := c.running()
	<-time.After(d)
	if after := c.running(); !slices.Equal(before, after) {
		c.t.Fatalf("of the agents %v only %v still run", before, after)
	}
}

// freeze stops a process, and returns once it does nothing any more.
func freeze(t *testing.T, p *process) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(p.cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("it does not stop: %v, status %v", err, status)
	}
}

func thaw(t *testing.T, p *process) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// freeze stops an agent. The journal counts what it handles as ended, since it does nothing while it is stopped.
func (c *chaos) freeze(id string) {
	c.t.Helper()
	freeze(c.t, c.agents[id])
	c.journal.Record(journal.Event{Member: id, Action: journal.Gone})
}

func (c *chaos) thaw(id string) {
	c.t.Helper()
	c.journal.Record(journal.Event{Member: id, Action: journal.Started})
	thaw(c.t, c.agents[id])
}
