package handler

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// clockNow is the time since the machine was started, in milliseconds. CLOCK_BOOTTIME is the same in every process of
// a machine, goes on while it sleeps, and cannot be set.
func clockNow() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(fmt.Sprintf("clock_gettime(CLOCK_BOOTTIME): %v", err)) // every Linux since 2.6.39 has it
	}
	return t.Nano() / int64(time.Millisecond)
}

// alarm sends on C when the time it was set to comes, also if the machine slept on the way there, which Go's own
// timers do not count.
type alarm struct {
	C  <-chan struct{}
	fd int
}

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("timerfd_create: %w", err)
	}
	file := os.NewFile(uintptr(fd), "timerfd")
	c := make(chan struct{})
	go func() { // ends with the guard
		var ticks [8]byte
		for {
			if _, err := file.Read(ticks[:]); err != nil {
				panic(fmt.Sprintf("timerfd: %v", err)) // the process dies with the guard, rather than outlive its claim
			}
			c <- struct{}{}
		}
	}()
	return &alarm{C: c, fd: fd}, nil
}

func (a *alarm) set(until int64) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(1, until) * int64(time.Millisecond))}
	if err := unix.TimerfdSettime(a.fd, unix.TFD_TIMER_ABSTIME, &spec, nil); err != nil {
		panic(fmt.Sprintf("timerfd_settime: %v", err)) // as above
	}
}

func signalAtParentDeath(attr *syscall.SysProcAttr, s syscall.Signal) { attr.Pdeathsig = s }

// awaitExit returns when the process ended, and leaves it to cmd.Wait to reap it: until then its number, which is that
// of its group, cannot be given to another process.
func awaitExit(cmd *exec.Cmd) {
	for {
		err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// adoptOrphans makes this process the parent of each descendant that loses its own, instead of init.
func adoptOrphans() {
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) // without it, what leaves the group escapes
}

// reapOrphans takes the exit statuses of adopted processes that ended; leader is left to others.
func reapOrphans(leader int) {
	for _, pid := range children() {
		if pid != leader {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
	}
}

// killOrphans kills the children of this process, and those that it adopts from them, until there are none.
func killOrphans() {
	for {
		pids := children()
		for _, pid := range pids {
			// It is a child and not reaped yet, so the number is still its own.
			_ = unix.Kill(pid, unix.SIGKILL)
			for {
				if _, err := unix.Wait4(pid, nil, 0, nil); !errors.Is(err, unix.EINTR) {
					break
				}
			}
		}
		if len(pids) == 0 {
			return
		}
	}
}

// children are the ids of the processes whose parent this one is. A kernel without /proc/…/children has none to tell.
func children() []int {
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	var pids []int
	for _, list := range lists {
		text, err := os.ReadFile(list)
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
