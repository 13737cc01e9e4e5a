//go:build unix

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/distributed-resource-manager/drm/internal/faultproxy"
)

// These scenarios are faults of the processes of --handler-exec, and of a member's stderr.

var processScenarios = []scenario{
	{"nobody reads a member's stderr, and its network swallows everything, TTL 3 s", true, 1, func(c *chaos) {
		c.cutOffAs([]string{asMute}, (*faultproxy.Proxy).BlackHole)
	}},
	{"exec at its defaults: 300 processes of one member, TTL 5 s", true, 1, (*chaos).manyChildren},
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
