//go:build unix

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/faultproxy"
	"github.com/distributed-resource-manager/drm/internal/journal"
)

// These scenarios are faults of the processes of --handler-exec, and of a member's stderr.

var processScenarios = []scenario{
	{"nobody reads a member's stderr, and its network swallows everything, TTL 3 s", true, 1, func(c *chaos) {
		c.cutOffAs([]string{asMute}, (*faultproxy.Proxy).BlackHole)
	}},
	{"exec at its defaults: 300 processes of one member, TTL 5 s", true, 1, (*chaos).manyChildren},
	{"one of a member's processes (exec) is stopped (SIGSTOP)", true, 1, (*chaos).childStopped},
	{"one of a member's processes (exec) hangs, checked every second", true, 1, (*chaos).childHangs},
	{
		"a resource that fails its checks at one member only (exec), checked every second, `--move-after 2`", true, 1,
		(*chaos).wedgedMoves,
	},
}

// asMute is drmctl with a stderr that accepts nothing: a pipe that is full.
const asMute = "__mute"

func init() { helpers[asMute] = runMute }

// runMute becomes drmctl with these arguments. The end of the pipe that nobody reads stays open in it.
func runMute(args []string) int {
	self, err := os.Executable()
	var ends [2]int
	if err == nil {
		err = syscall.Pipe(ends[:])
	}
	if err == nil {
		err = syscall.SetNonblock(ends[1], true)
	}
	for err == nil {
		_, err = syscall.Write(ends[1], make([]byte, 4096))
	}
	if errors.Is(err, syscall.EAGAIN) {
		err = syscall.SetNonblock(ends[1], false)
	}
	if err == nil {
		err = syscall.Close(2)
	}
	if err == nil {
		_, err = syscall.Dup(ends[1]) // the lowest number that is free
	}
	if err == nil {
		err = syscall.Exec(self, append([]string{self}, args...), os.Environ())
	}
	fmt.Fprintln(os.Stderr, err)
	return exitFailed
}

// manyChildren has one member begin with hundreds of processes at once, on the machine's few processors, and keep them.
func (c *chaos) manyChildren() {
	n, lasts := 300, 10*time.Second
	if c.long {
		lasts = time.Minute
	}
	began := c.now()
	c.withChildrenOf(n, "a")
	c.note("all %d ran after %s", n, seconds(c.took(began)))
	running := c.now()
	c.lasts(lasts)
	if touched := len(c.since(running.events)); touched > 0 {
		c.t.Errorf("%d processes began or ended while nothing happened", touched)
	}
	if text := c.logs["a"].warnings(10); strings.Contains(text, "fenced") {
		c.t.Errorf("a lease was fenced:\n%s", text)
	}
	c.note("no lease was fenced in %s", seconds(time.Since(began.at)))
}

// checkInterval is how often checkedChildren are checked.
const checkInterval = time.Second

// checkedChildren starts members, the first of which is a, that run a process for each resource, and check it. pid
// returns the number of the process of a resource. The returned resource is one of a's. A check fails where there is a
// file hung.PID in the folder, or hung.RESOURCE.MEMBER.
func (c *chaos) checkedChildren(members []string, more ...string) (
	before map[string]string, dir, victim string, pid func(string) int,
) {
	c.t.Helper()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	dir = c.t.TempDir()
	command := fmt.Sprintf("'%s' %s %s '%s'", self, asLeash, leash(c.t, c.journal), dir)
	gauge := filepath.Join(dir, "gauge.sh") // small, since it runs twenty times a second
	text := `test ! -e "$1/hung.$DRM_PID" && test ! -e "$1/hung.$DRM_RESOURCE_ID.$DRM_MEMBER" ||
		{ echo "it does not answer"; exit 1; }`
	if err := os.WriteFile(gauge, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.fill(20)
	for _, id := range members {
		c.start(id, append([]string{
			"--handler-url", "", "--handler-exec", command, "--exec-stopped-timeout", "2s",
			"--check-exec", fmt.Sprintf("sh '%s' '%s'", gauge, dir), "--check-interval", checkInterval.String(),
		}, more...)...)
	}
	before = c.all(members...)
	for r, member := range before {
		if member == "a" {
			victim = r
		}
	}
	return before, dir, victim, func(r string) int {
		text, err := os.ReadFile(filepath.Join(dir, r))
		n, err2 := strconv.Atoi(string(text))
		if err := errors.Join(err, err2); err != nil {
			c.t.Fatal(err)
		}
		return n
	}
}

// replaced waits until a has another process for a resource, and checks that nothing else was touched.
func (c *chaos) replaced(fault mark, before map[string]string, victim, why string) {
	c.t.Helper()
	eventually(c.t, func() error {
		got := drmctl(c.t.Context(), append(c.args(), "assignments", "--failed")...)
		if !strings.Contains(got.stdout, victim) || !strings.Contains(got.stdout, why) {
			return fmt.Errorf("it is not shown as failed because %q: %s", why, got.stdout)
		}
		return nil
	})
	shown := time.Since(fault.at)
	eventually(c.t, func() error {
		for _, e := range c.since(fault.events) {
			if e.Action == journal.Handle && e.Resource == victim && e.Member == "a" {
				return nil
			}
		}
		return errors.New("there is no other process")
	})
	after := c.all("a", "b")
	c.takeover = c.took(fault)
	if after[victim] != "a" {
		c.t.Errorf("%s went to %s", victim, after[victim])
	}
	touched := c.touched(fault, before)
	if !slices.Equal(touched, []string{victim}) {
		c.t.Errorf("touched: %v, want %s alone", touched, victim)
	}
	c.note("shown as failed after %s; %d of %d others were touched", seconds(shown), len(touched)-1, len(before)-1)
}

func (c *chaos) childStopped() {
	before, _, victim, pid := c.checkedChildren([]string{"a", "b"})
	fault := c.now()
	if err := syscall.Kill(pid(victim), syscall.SIGSTOP); err != nil {
		c.t.Fatal(err)
	}
	c.replaced(fault, before, victim, "is stopped (SIGSTOP)")
}

func (c *chaos) childHangs() {
	before, dir, victim, pid := c.checkedChildren([]string{"a", "b"})
	fault := c.now()
	if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("hung.", pid(victim))), nil, 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.replaced(fault, before, victim, "it does not answer")
}

// wedgedMoves lets the checks of one resource fail at its member, whatever process it has there. The member begins it
// anew once, as --move-after says, and then lets another member have it, where its checks succeed. All else stays.
func (c *chaos) wedgedMoves() {
	const moveAfter = 2
	members := []string{"a", "b", "c"}
	before, dir, victim, _ := c.checkedChildren(members, "--move-after", fmt.Sprint(moveAfter))
	fault := c.now()
	if err := os.WriteFile(filepath.Join(dir, "hung."+victim+".a"), nil, 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.holders("another member has what is wedged", func(held map[string]string) bool {
		return held[victim] != "" && held[victim] != "a" && len(held) == len(c.wanted)
	})
	after := c.all(members...)
	c.takeover = c.took(fault)
	if touched := c.touched(fault, before); !slices.Equal(touched, []string{victim}) {
		c.t.Errorf("touched: %v, want %s alone", touched, victim)
	}
	var by []string
	for _, e := range c.since(fault.events) {
		if e.Action == journal.Handle {
			by = append(by, e.Member)
		}
	}
	if want := []string{"a", after[victim]}; !slices.Equal(by, want) || after[victim] == "a" {
		c.t.Errorf("it was begun by %v, and is with %s; want it begun once more by a, and then by the other one", by,
			after[victim])
	}
	// Each time some checks in a row must fail, and between the two times there is a pause of about 1 s.
	if bound := moveAfter*drm.DefaultCheckFailures*checkInterval + 10*time.Second; c.takeover > bound {
		c.t.Errorf("it was with another member after %v, want %v", c.takeover, bound)
	}
	moved := c.now()
	c.lasts((drm.DefaultCheckFailures + 1) * checkInterval)
	if n := len(c.since(moved.events)); n > 0 {
		c.t.Errorf("%d processes began or ended after it had moved", n)
	}
	c.note("it was begun again at its member once; 0 of %d others were touched", len(before)-1)
}
