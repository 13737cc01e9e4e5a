//go:build linux || darwin

package handler

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// groupPoll is how often a guard looks whether a group whose leader ended on SIGTERM is empty.
const groupPoll = 20 * time.Millisecond

// RunGuard is what the guard process of an Exec does: it runs the command under the orders of the agent that started
// it, and returns the process's exit code. A main function calls it before anything else (see GuardArg), because a
// guard should be small and start quickly. It is of no use to anyone but an Exec.
func RunGuard(args []string) int {
	reports := os.NewFile(reportFD, "reports")
	if info, err := reports.Stat(); err != nil || info.Mode()&os.ModeNamedPipe == 0 || len(args) == 0 {
		fmt.Fprintln(os.Stderr, "this is the guard of a process that `drmctl agent --handler-exec` runs; it is not for use by hand")
		return 2
	}
	syscall.CloseOnExec(reportFD) // the process must not hold it open
	runtime.GOMAXPROCS(1)
	// The thread that starts the process must live as long as the guard does: with it the kernel kills the process.
	runtime.LockOSThread()
	g := &guard{agent: os.Getppid(), reports: json.NewEncoder(reports), orders: make(chan order), exited: make(chan struct{})}
	return g.run(args)
}

// guard has one process. All its fields belong to the goroutine of run.
type guard struct {
	agent   int // the agent's process id
	reports *json.Encoder
	orders  chan order // closed when there will be none any more

	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd ended; on Linux, before its number is free again
	reaped bool
}

func (g *guard) run(args []string) int {
	signals := make(chan os.Signal, 8)
	// Signals are for the agent to act on. They are caught and not ignored, since the process would inherit that.
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGCHLD)
	adoptOrphans()
	go g.read()
	first, ok := <-g.orders
	if !ok {
		return 1
	}
	alarm, err := newAlarm()
	if err == nil {
		alarm.set(first.Until)
		err = g.start(args, first.Input)
	}
	if err != nil {
		_ = g.reports.Encode(report{Error: err.Error()})
		return 1
	}
	_ = g.reports.Encode(report{PID: g.cmd.Process.Pid}) // if the agent is gone, the orders end too
	reason := g.watch(first.Until, alarm, signals)
	g.end()
	ended := g.cmd.ProcessState.String()
	if reason != "" {
		ended += " (" + reason + ")"
	}
	_ = g.reports.Encode(report{Ended: ended})
	return max(0, g.cmd.ProcessState.ExitCode())
}

// read passes the agent's orders on. It ends with the guard.
func (g *guard) read() {
	defer close(g.orders)
	dec := json.NewDecoder(os.Stdin)
	for {
		var o order
		if dec.Decode(&o) != nil {
			return
		}
		g.orders <- o
	}
}

// start starts the process in a group of its own.
func (g *guard) start(args []string, input []byte) error {
	stdin, feed, err := os.Pipe()
	if err != nil {
		return err
	}
	g.cmd = exec.Command(args[0], args[1:]...) //nolint:noctx // its life is what the guard is about
	g.cmd.Stdin, g.cmd.Stdout, g.cmd.Stderr = stdin, os.Stdout, os.Stderr
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	signalAtParentDeath(g.cmd.SysProcAttr, syscall.SIGKILL)
	err = g.cmd.Start()
	_ = stdin.Close()
	if err != nil {
		return err
	}
	go func() { // it may never read: then this ends with the guard
		_, _ = feed.Write(input)
		_ = feed.Close()
	}()
	go func() {
		awaitExit(g.cmd)
		close(g.exited)
	}()
	return nil
}

// watch returns when what is left of the process must be killed, with the reason; "" if it ended by itself.
func (g *guard) watch(until int64, alarm *alarm, signals <-chan os.Signal) string {
	var (
		terminating bool
		grace       <-chan time.Time
		look        <-chan time.Time
		exited      = g.exited
	)
	for {
		select {
		case o, ok := <-g.orders:
			if !ok {
				return "killed: the agent is gone or gave it up"
			}
			if o.Until != 0 {
				until = o.Until
				alarm.set(until)
			}
			if o.TerminateMS != 0 && !terminating {
				terminating = true
				_ = unix.Kill(-g.cmd.Process.Pid, unix.SIGTERM)
				grace = time.After(time.Duration(o.TerminateMS) * time.Millisecond)
			}
		case <-alarm.C:
			if clockNow() >= until {
				return "killed: not renewed by the claim's deadline"
			}
		case <-grace:
			return "killed: still there after the grace that follows SIGTERM"
		case s := <-signals:
			if s == syscall.SIGCHLD {
				reapOrphans(g.cmd.Process.Pid)
			} else if os.Getppid() != g.agent {
				return "killed: the agent died"
			}
		case <-exited:
			if !terminating {
				return ""
			}
			// The others in its group got SIGTERM too, and have the rest of the grace. Once the leader is reaped, its
			// number stays taken for as long as the group has a member.
			exited = nil
			g.reap()
			look = time.Tick(groupPoll)
		case <-look:
			reapOrphans(0)
			if errors.Is(unix.Kill(-g.cmd.Process.Pid, 0), unix.ESRCH) {
				return ""
			}
		}
	}
}

// end kills what is left of the group, and every other descendant that the guard can find.
func (g *guard) end() {
	if !g.reaped {
		_ = unix.Kill(-g.cmd.Process.Pid, unix.SIGKILL)
		<-g.exited
	}
	// Again for what the leader's last moment may have added; and for a leader that ended long before its group.
	_ = unix.Kill(-g.cmd.Process.Pid, unix.SIGKILL)
	g.reap()
	killOrphans()
}

func (g *guard) reap() {
	if !g.reaped {
		_ = g.cmd.Wait()
		g.reaped = true
	}
}
