// Package procfs reads what Linux tells of processes in /proc. On systems without it, it finds nothing.
package procfs

import (
	"bytes"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Stat is a part of /proc/PID/stat.
type Stat struct {
	Parent, Group, Session int
	Started                string // in clock ticks since the machine started; tells apart two processes of one number
}

// ReadStat returns the Stat of a process; ok is false if there is no such process.
func ReadStat(pid int) (s Stat, ok bool) {
	text, err := Read("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return s, false
	}
	// The second field is the program's name in brackets; the name may have brackets and spaces too.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return s, false
	}
	s.Parent, _ = strconv.Atoi(fields[1])
	s.Group, _ = strconv.Atoi(fields[2])
	s.Session, _ = strconv.Atoi(fields[3])
	s.Started = fields[19]
	return s, true
}

// CPU returns how much processor time a process has used; 0 if there is no such process.
func CPU(pid int) time.Duration {
	text, err := Read("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	const perSecond = 100 // Linux tells programs of a hundred clock ticks a second on every machine
	return time.Duration(user+system) * (time.Second / perSecond)
}

// Lists returns the files in which the kernel lists the children of a process, or of this one for "self": one for each
// thread. There are none if the kernel does not list children.
func Lists(pid string) []string {
	lists, _ := filepath.Glob("/proc/" + pid + "/task/*/children") // the pattern is fine
	return lists
}

// Children returns the processes in these Lists.
func Children(lists []string) (pids []int) {
	for _, list := range lists {
		text, err := Read(list)
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
