package supervise

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/distributed-resource-manager/drm/internal/procfs"
)

// children are the children of this process. It adopts each process below it that loses its parent, so whatever the
// command has started is a child of this process, or below one.
//
// A process that is a child cannot be mixed up with another one: its number is free only once this process has taken
// its exit status, and only the goroutine that uses children does so.
type children struct {
	main    int          // the process of the command; 0 while there is none
	foreign map[int]bool // children that this process had before: whoever started this process by exec left them
}

// newChildren makes this process the parent of each process below it that loses its own.
func newChildren() (*children, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("adopt the processes that a command leaves: %w", err)
	}
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		return nil, errNoProc
	}
	c := &children{foreign: make(map[int]bool)}
	for _, pid := range childrenOf(os.Getpid()) {
		c.foreign[pid] = true
	}
	return c, nil
}

// reap takes the exit statuses of all children that have ended. ended says that the command's process is among them;
// status is its status.
func (c *children) reap() (status syscall.WaitStatus, ended bool) {
	for {
		var s syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &s, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || pid <= 0:
			return status, ended
		case pid == c.main:
			c.main, status, ended = 0, s, true
		}
		delete(c.foreign, pid)
	}
}

// kill kills all children but the foreign ones. What they have started becomes a child of this process then.
func (c *children) kill() {
	for _, pid := range c.list() {
		_ = unix.Kill(pid, unix.SIGKILL) // one that cannot be killed, since another user runs it, shows in none
	}
}

// list returns the children but the foreign ones, those that have ended included.
func (c *children) list() []int {
	return slices.DeleteFunc(childrenOf(os.Getpid()), func(pid int) bool { return c.foreign[pid] })
}

// none reports whether nothing is left of what the command has started: this process has no children any more.
//
// The kernel says so for certain if there are no foreign children. Otherwise the list of children says so: a process
// leaves the list only when this goroutine takes its exit status, and what loses its parent is appended before the
// parent can be waited for. So while anything lives, the list has a child that is not foreign.
func (c *children) none() bool {
	if len(c.foreign) > 0 {
		return len(c.list()) == 0
	}
	for {
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
		if !errors.Is(err, unix.EINTR) {
			return errors.Is(err, unix.ECHILD)
		}
	}
}

// below reports whether a process is below this one, or has ended. It looks again if a process between the two ends
// meanwhile, which moves what is below that process.
func below(pid int) bool {
	self := os.Getpid()
	for range 10 {
		at, depth := pid, 0
		for ; at > 1 && at != self && depth < 1000; depth++ {
			s, ok := procfs.ReadStat(at)
			if !ok && at == pid {
				return true // it has ended
			}
			if !ok {
				break
			}
			at = s.Parent
		}
		switch {
		case at == self:
			return true
		case at <= 1:
			return false
		}
	}
	return false
}

// childrenOf returns the children of a process.
func childrenOf(pid int) []int {
	lists := procfs.Lists(strconv.Itoa(pid))
	if len(lists) == 0 {
		return scanForChildren(pid)
	}
	return procfs.Children(lists)
}

// scanForChildren is childrenOf for a kernel without lists of children.
func scanForChildren(pid int) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		child, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if s, ok := procfs.ReadStat(child); ok && s.Parent == pid {
			pids = append(pids, child)
		}
	}
	return pids
}
