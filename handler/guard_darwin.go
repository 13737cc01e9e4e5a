package handler

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// clockNow is a time in milliseconds that is the same in every process of a machine, goes on while it sleeps, and
// cannot be set: on macOS that is CLOCK_MONOTONIC_RAW.
func clockNow() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &t); err != nil {
		panic(fmt.Sprintf("clock_gettime(CLOCK_MONOTONIC_RAW): %v", err)) // every macOS since 10.12 has it
	}
	return t.Nano() / int64(time.Millisecond)
}

// alarm sends on C five times a second: there is no timer that counts sleep.
type alarm struct{ C <-chan time.Time }

func newAlarm() (*alarm, error) { return &alarm{C: time.NewTicker(200 * time.Millisecond).C}, nil }

func (*alarm) set(int64) {}

// ownFile would be how the file that a process runs is named, which macOS does not have.
const ownFile = ""

// ownGuard is how this very program is started as a guard. check says whether it still can be: where its file has been
// replaced, or removed, another program would run, which might speak otherwise.
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
			return fmt.Errorf("this program's file is gone, so that it has to be started anew: %w", err)
		case !os.SameFile(first, now) || !first.ModTime().Equal(now.ModTime()) || first.Size() != now.Size():
			return fmt.Errorf("%s is another program since this one was started, which has to be started anew", path)
		}
		return nil
	}
	return []string{path, GuardArg}, check, nil
}

func nameSelf() {}

// receiveFlags are none: macOS has no way to have what is received close at exec.
const receiveFlags = 0

// launch starts the program. Until exec succeeded its number is not known: a claim that ends meanwhile has the process
// killed as soon as it is.
func (g *guard) launch(c *child, path string, input []byte) error {
	stdin, feed, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	c.feed = feed
	env := g.environ(c)
	stdout, stderr, printed := c.takeOutput()
	go func() {
		pid, err := syscall.ForkExec(path, g.args, &syscall.ProcAttr{
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

// launched is told of the process, or why there is none.
func (g *guard) launched(c *child, pid int, err error) {
	switch {
	case g.children[c.id] != c: // it was given up, and reported
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

// follow waits for what there is to be told of a process until it ended.
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

// What follows is what macOS does not have: a signal when the parent dies (the end of the orders tells), and the
// adoption of orphans (what leaves the group escapes).

func signalAtParentDeath(*syscall.SysProcAttr, syscall.Signal) {}

func adoptOrphans() {}

func killOrphans() {}

func (*guard) reap() {}

type guardSystem struct{}

func (guardSystem) init() {}

func (guardSystem) mark(*child) {}

func (guardSystem) hunt(*guard, *child) int { return 0 }

func (guardSystem) forget(*child) {}
