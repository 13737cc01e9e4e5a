package handler

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/distributed-resource-manager/drm/internal/procfs"
)

// guardSystem finds processes that have left their group and whose parents have ended. The guard adopts them, and must
// not kill those of another resource.
type guardSystem struct {
	forker
	lists []string         // the files in which the kernel lists the guard's own children
	kin   map[int]relative // by process id: descendants that were seen while their parents lived
}

// relative is a descendant of a child. Another process may get its number; the start time tells the two apart.
type relative struct {
	started string
	child   *child
}

// init must be called by the thread that starts the processes. The kernel lists them as children of that thread, and
// adopted processes as children of the first thread.
func (s *guardSystem) init() {
	s.kin = make(map[int]relative)
	for _, thread := range slices.Compact([]int{os.Getpid(), unix.Gettid()}) {
		s.lists = append(s.lists, fmt.Sprintf("/proc/self/task/%d/children", thread))
	}
}

// adoptOrphans makes this process the parent of each descendant that loses its own, instead of init.
func adoptOrphans() {
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) // if it fails, processes that leave their group escape
}

// mark remembers all descendants of a child that is about to be killed. When their parents are gone, only their
// environment tells whose they were.
func (s *guardSystem) mark(c *child) { s.markBelow(c, c.pid, 0) }

func (s *guardSystem) markBelow(c *child, pid, depth int) {
	if depth > 1000 { // numbers that go to other processes meanwhile could lead in a circle
		return
	}
	for _, p := range childrenOf(strconv.Itoa(pid)) {
		if info, ok := procfs.ReadStat(p); ok {
			s.kin[p] = relative{info.Started, c}
			s.markBelow(c, p, depth+1)
		}
	}
}

// hunt kills the adopted processes that belong to the child, and returns how many it found. They are unreaped children
// of this process, so no other process can have their numbers.
func (s *guardSystem) hunt(g *guard, c *child) (found int) {
	for _, pid := range procfs.Children(s.lists) {
		if g.byPID[pid] != nil || !s.belongs(pid, c) {
			continue
		}
		s.markBelow(c, pid, 0)
		if !errors.Is(unix.Kill(pid, unix.SIGKILL), unix.EPERM) { // a process of another user is out of reach
			found++
		}
	}
	return found
}

// belongs reports whether an adopted process belongs to the child, by the first of these that is known: what mark
// remembers of it, its group, what mark remembers of its group's and its session's leader, its environment.
func (s *guardSystem) belongs(pid int, c *child) bool {
	info, ok := procfs.ReadStat(pid)
	if !ok {
		return false
	}
	if r, ok := s.kin[pid]; ok && r.started == info.Started {
		return r.child == c
	}
	if info.Group == c.pid {
		return true
	}
	for _, leader := range []int{info.Group, info.Session} {
		if r, ok := s.kin[leader]; ok {
			return r.child == c
		}
	}
	environ, err := procfs.Read("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	vars := bytes.Split(environ, []byte{0})
	for _, pair := range c.env {
		if !strings.HasPrefix(pair, "DRM_") { // a program may take the others out of its environment
			continue
		}
		if !slices.ContainsFunc(vars, func(v []byte) bool { return string(v) == pair }) {
			return false
		}
	}
	return true
}

// forget drops what mark remembers of a child of which nothing is left.
func (s *guardSystem) forget(c *child) {
	for pid, r := range s.kin {
		if r.child == c {
			delete(s.kin, pid)
		}
	}
}

// killOrphans kills the children of this process, and the processes that it adopts from them, until there are none. A
// child that the kernel does not let go of, because it waits for a file system, must not keep the others alive.
func killOrphans() {
	for {
		pids := childrenOf("self")
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			// The child is not reaped yet, so no other process can have its number.
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		// Wait until one child ends, which may leave orphans, and then take all others that have ended.
		for options := 0; ; options = unix.WNOHANG {
			pid, err := unix.Wait4(-1, nil, options, nil)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil || pid == 0 {
				break
			}
		}
	}
}

// childrenOf returns the ids of the processes whose parent is pid, or this process for "self". It finds none if the
// kernel has no /proc/…/children.
func childrenOf(pid string) []int { return procfs.Children(procfs.Lists(pid)) }
