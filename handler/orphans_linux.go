package handler

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// guardSystem finds the processes that have left the group of theirs, and whose parents have ended: the guard adopts
// them, and must not kill those of another resource.
type guardSystem struct {
	forker
	lists []string         // where the kernel lists the guard's own children
	kin   map[int]relative // by process id: descendants that were seen while their parents lived
}

// relative is a descendant of a child. A number alone may have been given to another process since.
type relative struct {
	started string
	child   *child
}

// init is called by the thread that starts the processes, of which they are children; what is adopted goes to the first
// thread.
func (s *guardSystem) init() {
	s.kin = make(map[int]relative)
	for _, thread := range slices.Compact([]int{os.Getpid(), unix.Gettid()}) {
		s.lists = append(s.lists, fmt.Sprintf("/proc/self/task/%d/children", thread))
	}
}

// adoptOrphans makes this process the parent of each descendant that loses its own, instead of init.
func adoptOrphans() {
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) // without it, what leaves the group escapes
}

// mark remembers all descendants of a child that is about to be killed: when their parents are gone, nothing but their
// environment tells whose they were.
func (s *guardSystem) mark(c *child) { s.markBelow(c, c.pid, 0) }

func (s *guardSystem) markBelow(c *child, pid, depth int) {
	if depth > 1000 { // numbers that are given anew while this looks could lead in a circle
		return
	}
	for _, p := range childrenOf(strconv.Itoa(pid)) {
		if info, ok := readStat(p); ok {
			s.kin[p] = relative{info.started, c}
			s.markBelow(c, p, depth+1)
		}
	}
}

// hunt kills the adopted processes that are the child's, and says how many it found. These are unreaped children of
// this process, so that their numbers are their own.
func (s *guardSystem) hunt(g *guard, c *child) (found int) {
	for _, pid := range readChildren(s.lists) {
		if g.byPID[pid] != nil || !s.belongs(pid, c) {
			continue
		}
		s.markBelow(c, pid, 0)
		if !errors.Is(unix.Kill(pid, unix.SIGKILL), unix.EPERM) { // another user's is out of reach
			found++
		}
	}
	return found
}

func (s *guardSystem) belongs(pid int, c *child) bool {
	info, ok := readStat(pid)
	if !ok {
		return false
	}
	if r, ok := s.kin[pid]; ok && r.started == info.started {
		return r.child == c
	}
	if info.group == c.pid {
		return true
	}
	for _, leader := range []int{info.group, info.session} {
		if r, ok := s.kin[leader]; ok {
			return r.child == c
		}
	}
	environ, err := readProc("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	vars := bytes.Split(environ, []byte{0})
	for _, pair := range c.env {
		if !slices.ContainsFunc(vars, func(v []byte) bool { return string(v) == pair }) {
			return false
		}
	}
	return true
}

// forget is called when nothing of the child is left.
func (s *guardSystem) forget(c *child) {
	for pid, r := range s.kin {
		if r.child == c {
			delete(s.kin, pid)
		}
	}
}

// killOrphans kills the children of this process, and those that it adopts from them, until there are none. One that
// the kernel does not let go of, as it waits for a file system, must not save those of others.
func killOrphans() {
	for {
		pids := childrenOf("self")
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			// It is a child and not reaped yet, so the number is still its own.
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		for options := 0; ; options = unix.WNOHANG { // one has to end, which may leave others; and then whichever have
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

// childrenOf are the ids of the processes whose parent is pid, or "self". A kernel without /proc/…/children has none to
// tell.
func childrenOf(pid string) []int {
	lists, _ := filepath.Glob("/proc/" + pid + "/task/*/children")
	return readChildren(lists)
}

func readChildren(lists []string) (pids []int) {
	for _, list := range lists {
		text, err := readProc(list)
		if err != nil {
			continue // the thread has ended
		}
		for field := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// readProc reads a file of /proc. os.ReadFile would try to wait for it as for a pipe, which is twice the work.
func readProc(path string) (text []byte, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd) //nolint:errcheck // it was only read
	part := make([]byte, 8192)
	for {
		n, err := unix.Read(fd, part)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return text, err
		}
		text = append(text, part[:n]...)
	}
}

// stat is some of what /proc/PID/stat tells.
type stat struct {
	group, session int
	started        string // in clock ticks since the machine started
}

func readStat(pid int) (s stat, ok bool) {
	text, err := readProc("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return s, false
	}
	// The second field is the program's name, in brackets, with whatever in it.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return s, false
	}
	s.group, _ = strconv.Atoi(fields[2])
	s.session, _ = strconv.Atoi(fields[3])
	s.started = fields[19]
	return s, true
}
