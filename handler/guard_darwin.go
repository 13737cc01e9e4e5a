package handler

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// clockNow returns a time in milliseconds. Every process of a machine sees the same clock; it goes on while the machine
// sleeps, and nobody can set it. On macOS that is CLOCK_MONOTONIC_RAW.
func clockNow() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &t); err != nil {
		panic(fmt.Sprintf("clock_gettime(CLOCK_MONOTONIC_RAW): %v", err)) // every macOS since 10.12 has it
	}
	return t.Nano() / int64(time.Millisecond)
}

// alarm sends on C five times a second, because macOS has no timer that counts the time asleep.
type alarm struct{ C <-chan time.Time }

func newAlarm() (*alarm, error) { return &alarm{C: time.NewTicker(200 * time.Millisecond).C}, nil }

func (*alarm) set(int64) {}

// ownFile is empty: macOS has no name for the file that a process runs.
const ownFile = ""

// ownGuard returns the command that starts this very program as a guard. check fails once the program's file has been
// replaced or removed: another program would run, which might have another protocol.
func ownGuard() (command []string, check func() error, err error) {
	path, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	first, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	check = func() error {
		now, err := os.Stat(path)
		switch {
		case err != nil:
			return fmt.Errorf("this program's file is gone; the program has to be started anew: %w", err)
		case !os.SameFile(first, now) || !first.ModTime().Equal(now.ModTime()) || first.Size() != now.Size():
			return fmt.Errorf("%s was replaced since this program started; the program has to be started anew", path)
		}
		return nil
	}
	return []string{path, GuardArg}, check, nil
}

func nameSelf() {}

// receiveFlags is 0: macOS cannot mark received files as close-on-exec while it receives them.
const receiveFlags = 0

// launch starts the program. The process id is not known before exec succeeds. If the claim ends before that, the
// process is killed as soon as its id is known.
func (g *guard) launch(c *child, path string, input []byte) error {
	stdin, feed, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	c.feed = feed
	env := g.environ(c)
	stdout, stderr, printed := c.takeOutput()
	go func() {
		pid, err := syscall.ForkExec(path, c.args, &syscall.ProcAttr{
			Env:   env,
			Files: []uintptr{stdin.Fd(), uintptr(stdout), uintptr(stderr)},
			Sys:   &syscall.SysProcAttr{Setpgid: true},
		})
		_ = stdin.Close()
		printed()
		if err != nil {
			_ = feed.Close()
			err = &os.PathError{Op: "exec", Path: path, Err: err}
		} else {
			go feedTo(feed, input)
		}
		g.post(func() { g.launched(c, pid, err) })
	}()
	return nil
}

// launched takes the outcome of a launch: the process id, or why there is no process.
func (g *guard) launched(c *child, pid int, err error) {
	switch {
	case g.children[c.id] != c: // it was killed, and that was reported, before its process id was known
		if err == nil {
			_ = unix.Kill(-pid, unix.SIGKILL)
			go func() { _, _ = syscall.Wait4(pid, nil, 0, nil) }()
		}
	case err != nil:
		g.fail(c, err.Error())
	default:
		c.pid = pid
		g.byPID[pid] = c
		go g.follow(c)
		g.confirm(c, nil)
	}
}

// follow waits for each change of a process (stopped, resumed, ended) and passes it to the loop. It returns when the
// process has ended.
func (g *guard) follow(c *child) {
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(c.pid, &status, syscall.WUNTRACED|unix.WCONTINUED, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err == nil && status.Stopped():
			g.post(func() { g.stopped(c.pid, status.StopSignal(), false) })
		case err == nil && status.Continued():
			g.post(func() { g.stopped(c.pid, 0, true) })
		default:
			g.post(func() { g.exited(c, func() syscall.WaitStatus { return status }) })
			return
		}
	}
}

// macOS does not have what follows. It sends no signal when the parent dies; the guard notices the end of the orders
// instead. It has no adoption of orphans; a process that leaves its group escapes.

func signalAtParentDeath(*syscall.SysProcAttr, syscall.Signal) {}

func adoptOrphans() {}

func killOrphans() {}

func (*guard) reap() {}

type guardSystem struct{}

func (guardSystem) init() {}

func (guardSystem) mark(*child) {}

func (guardSystem) hunt(*guard, *child) int { return 0 }

func (guardSystem) forget(*child) {}
