package handler

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// clockNow returns the time since the machine was started, in milliseconds. Every process of a machine sees the same
// CLOCK_BOOTTIME; it goes on while the machine sleeps, and nobody can set it.
func clockNow() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(fmt.Sprintf("clock_gettime(CLOCK_BOOTTIME): %v", err)) // every Linux since 2.6.39 has it
	}
	return t.Nano() / int64(time.Millisecond)
}

// alarm sends on C at the time it was set to. It counts the time asleep, which Go's own timers do not.
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
				noAlarm("read", err)
			}
			c <- struct{}{}
		}
	}()
	return &alarm{C: c, fd: fd}, nil
}

func (a *alarm) set(until int64) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(1, until) * int64(time.Millisecond))}
	if err := unix.TimerfdSettime(a.fd, unix.TFD_TIMER_ABSTIME, &spec, nil); err != nil {
		noAlarm("timerfd_settime", err)
	}
}

// noAlarm ends a guard that has no alarm any more. Its processes die with it; otherwise they could outlive their
// claims.
func noAlarm(doing string, err error) { panic(fmt.Sprintf("timerfd: %s: %v", doing, err)) }

// ownFile names the file that a process runs, even if a newer file has taken its place. The newer program might have
// another protocol. A process that is about to become a guard finds the agent's file there, because it is a copy of the
// agent until exec.
const ownFile = "/proc/self/exe"

// ownGuard returns the command that starts this very program as a guard. It works whatever has become of the program's
// file, so check always succeeds.
func ownGuard() (command []string, check func() error, err error) {
	if _, err := os.Stat(ownFile); err != nil { // without /proc, os.Executable would fail as well
		return nil, nil, err
	}
	return []string{ownFile, GuardArg}, func() error { return nil }, nil
}

// nameSelf gives this process the name of its program in the list of processes. As it is started by ownFile, its name
// would be "exe".
func nameSelf() {
	path := fmt.Sprintf("/proc/self/task/%d/comm", os.Getpid())
	_ = os.WriteFile(path, []byte(filepath.Base(os.Args[0])), 0) // without /proc there is no such name to set
}

// receiveFlags mark received files as close-on-exec.
const receiveFlags = unix.MSG_CMSG_CLOEXEC

func signalAtParentDeath(attr *syscall.SysProcAttr, s syscall.Signal) { attr.Pdeathsig = s }

// launch forks the process. The guard's loop waits for the fork only: exec may hang with its file system, and nothing
// but the new process itself waits for exec.
func (g *guard) launch(c *child, path string, input []byte) error {
	var stdin, result [2]int
	if err := unix.Pipe2(stdin[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	if err := unix.Pipe2(result[:], unix.O_CLOEXEC); err != nil {
		_, _ = unix.Close(stdin[0]), unix.Close(stdin[1])
		return fmt.Errorf("pipe: %w", err)
	}
	// The guard's ends do not block, so that a goroutine waits and not a thread.
	_, _ = unix.SetNonblock(stdin[1], true), unix.SetNonblock(result[0], true)
	c.feed = os.NewFile(uintptr(stdin[1]), "stdin")
	from := os.NewFile(uintptr(result[0]), "result")
	stdout, stderr, printed := c.takeOutput()
	pid, err := g.system.fork(forking{
		path: path, args: c.args, env: g.environ(c),
		stdin: stdin[0], stdout: stdout, stderr: stderr, result: result[1],
		until: c.until, guard: os.Getpid(),
	})
	_, _ = unix.Close(stdin[0]), unix.Close(result[1])
	printed()
	if err != nil {
		_, _ = c.feed.Close(), from.Close()
		return err
	}
	// The process does this as well. Whichever comes first, no signal to the group misses the process. This call fails
	// if exec has succeeded already, and is not needed then.
	_ = unix.Setpgid(pid, pid)
	c.pid = pid
	g.byPID[pid] = c
	go feedTo(c.feed, input)
	go func() {
		var code [1]byte
		n, _ := from.Read(code[:]) // n is 0 if exec succeeded, or if the process was killed before that
		_ = from.Close()
		g.post(func() { g.confirm(c, execFailure(path, n, code[0])) })
	}()
	return nil
}

// execFailure turns the n bytes that a new process wrote before exec into an error: nil for none.
func execFailure(path string, n int, code byte) error {
	switch {
	case n == 0:
		return nil
	case code == codeEnded:
		return errors.New(claimEnded)
	default:
		return &os.PathError{Op: "exec", Path: path, Err: syscall.Errno(code)}
	}
}

// childEvent is what waitid reports about a process: siginfo_t in its form for SIGCHLD.
type childEvent struct {
	signo, errno, code int32
	_                  [unsafe.Sizeof(uintptr(0)) - 4]byte
	pid                int32
	uid                uint32
	status             int32
	_                  [100]byte
}

// waitAny returns one change of any child that options ask for. ok is false if there is none now.
func waitAny(options int) (e childEvent, ok bool) {
	for {
		err := unix.Waitid(unix.P_ALL, 0, (*unix.Siginfo)(unsafe.Pointer(&e)), options|unix.WNOHANG, nil)
		if !errors.Is(err, unix.EINTR) {
			return e, err == nil && e.pid != 0
		}
	}
}

// reap handles all changes of the guard's own processes and of those that it adopted: which ended, stopped or go on.
func (g *guard) reap() {
	for {
		e, ok := waitAny(unix.WEXITED | unix.WNOWAIT)
		if !ok {
			break
		}
		take := func() (status syscall.WaitStatus) {
			for {
				if _, err := syscall.Wait4(int(e.pid), &status, syscall.WNOHANG, nil); !errors.Is(err, unix.EINTR) {
					return status
				}
			}
		}
		if c := g.byPID[int(e.pid)]; c != nil {
			g.exited(c, take)
		} else {
			take()
		}
	}
	const cldContinued = 6
	for {
		e, ok := waitAny(unix.WSTOPPED | unix.WCONTINUED)
		if !ok {
			break
		}
		g.stopped(int(e.pid), syscall.Signal(e.status), e.code == cldContinued)
	}
	for _, c := range g.children { // a process that has just ended may have been the last of its group
		if c.poll > 0 {
			if c.ending {
				g.settle(c)
			} else {
				g.look(c)
			}
		}
	}
}
