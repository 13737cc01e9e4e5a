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
				panic(
					fmt.Sprintf("timerfd: %v", err),
				) // the processes die with the guard, rather than outlive their claims
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

// ownFile is the file that a process runs, even if a newer one has been put in its place, which might speak otherwise
// to its guards: what is to become a guard is a copy of the agent when it looks there.
const ownFile = "/proc/self/exe"

// ownGuard is how this very program is started as a guard, whatever has become of its file. check says whether it still
// can be.
func ownGuard() (command []string, check func() error, err error) {
	if _, err := os.Stat(ownFile); err != nil { // no /proc: os.Executable has nowhere to look either
		return nil, nil, err
	}
	return []string{ownFile, GuardArg}, func() error { return nil }, nil
}

// nameSelf gives this process the name of its program, for those who look: started as ownFile it would be "exe".
func nameSelf() {
	path := fmt.Sprintf("/proc/self/task/%d/comm", os.Getpid())
	_ = os.WriteFile(path, []byte(filepath.Base(os.Args[0])), 0) // the file exists, or there is no such thing
}

// receiveFlags make what is received close at exec.
const receiveFlags = unix.MSG_CMSG_CLOEXEC

func signalAtParentDeath(attr *syscall.SysProcAttr, s syscall.Signal) { attr.Pdeathsig = s }

// launch forks, with the loop held up for that long only: exec may hang with its file system, and nothing waits for it
// but the process itself.
func (g *guard) launch(c *child, path string, input []byte) error {
	var stdin, result [2]int
	if err := unix.Pipe2(stdin[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	if err := unix.Pipe2(result[:], unix.O_CLOEXEC); err != nil {
		_, _ = unix.Close(stdin[0]), unix.Close(stdin[1])
		return fmt.Errorf("pipe: %w", err)
	}
	_, _ = unix.SetNonblock(
		stdin[1],
		true,
	), unix.SetNonblock(
		result[0],
		true,
	) // our ends: a goroutine waits, not a thread
	c.feed = os.NewFile(uintptr(stdin[1]), "stdin")
	from := os.NewFile(uintptr(result[0]), "result")
	stdout, stderr, printed := c.takeOutput()
	pid, err := g.system.fork(
		forking{path, g.args, g.environ(c), stdin[0], stdout, stderr, result[1], c.until, os.Getpid()},
	)
	_, _ = unix.Close(stdin[0]), unix.Close(result[1])
	printed()
	if err != nil {
		_, _ = c.feed.Close(), from.Close()
		return err
	}
	// The process does this too: whoever comes first, no signal to the group misses it. It fails after an exec.
	_ = unix.Setpgid(pid, pid)
	c.pid = pid
	g.byPID[pid] = c
	go feedTo(c.feed, input)
	go func() {
		var code [1]byte
		n, _ := from.Read(
			code[:],
		) // nothing is there to be read once exec succeeded, or the process was killed before it
		_ = from.Close()
		g.post(func() { g.confirm(c, execFailure(path, n, code[0])) })
	}()
	return nil
}

// execFailure says what a process that could not become its program told.
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

// childEvent is what waitid tells of a process: siginfo_t as it is for SIGCHLD.
type childEvent struct {
	signo, errno, code int32
	_                  [unsafe.Sizeof(uintptr(0)) - 4]byte
	pid                int32
	uid                uint32
	status             int32
	_                  [100]byte
}

// waitAny tells of one process of which there is something to be told, if there is one.
func waitAny(options int) (e childEvent, ok bool) {
	for {
		err := unix.Waitid(unix.P_ALL, 0, (*unix.Siginfo)(unsafe.Pointer(&e)), options|unix.WNOHANG, nil)
		if !errors.Is(err, unix.EINTR) {
			return e, err == nil && e.pid != 0
		}
	}
}

// reap takes what there is to be told of the guard's own processes and of those that it adopted.
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
	for _, c := range g.children { // one of those may have been the last of its group
		if c.poll > 0 {
			if c.ending {
				g.settle(c)
			} else {
				g.look(c)
			}
		}
	}
}
