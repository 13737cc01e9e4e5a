package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/distributed-resource-manager/drm/internal/leaselink"
	"github.com/distributed-resource-manager/drm/internal/pace"
)

// Run supervises the command until it has ended for good, and returns its exit code: 128 + n if signal n has ended it.
// The end of ctx counts as a SIGTERM. A *StartError says that the command could not be started the first time.
//
// Run waits for all children of this process, so nothing else in it may start any. One Run at a time is allowed. It
// works on Linux only; elsewhere the error matches errors.ErrUnsupported.
func Run(ctx context.Context, cfg Config) (code int, err error) { return run(ctx, cfg, newCgroup) }

// run is Run, with what makes the n-th cgroup.
func run(ctx context.Context, cfg Config, makeCgroup func(n int) (*cgroup, error)) (code int, err error) {
	children, err := newChildren()
	if err != nil {
		return 0, err
	}
	home := newHome()
	defer home.remove()
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	defer signal.Stop(died)
	s := &supervisor{
		Config: cfg, children: children, home: home, died: died, ctx: ctx, stop: ctx.Done(),
		pauses: pace.Around(cfg.Backoff, cfg.BackoffMax, 0.2), makeCgroup: makeCgroup,
	}
	return s.run()
}

// supervisor is the state of Run.
type supervisor struct {
	Config
	children *children
	home     *home
	died     <-chan os.Signal // tells that a child may have died
	ctx      context.Context
	stop     <-chan struct{} // closed when the command shall end; nil once that was heeded
	pauses   *pace.Pauses

	makeCgroup func(n int) (*cgroup, error)

	ending bool      // the command shall end for good
	passed os.Signal // the last signal that was passed on to the life that runs
}

// life is one process of the command, with all that it starts.
type life struct {
	process *os.Process
	links   *collector
	cgroup  *cgroup // nil: it has none of its own
	began   time.Time
}

// run starts the command again and again, until it has ended for good.
func (s *supervisor) run() (code int, err error) {
	for n := 1; ; n++ {
		l, err := s.start(n)
		switch {
		case err != nil && n == 1:
			return 0, err
		case err != nil: // somebody may be replacing the program
			s.Log.Error("cannot start the command again", zap.Error(err))
		default:
			status := s.watch(l)
			s.finish(l, End{Exit: inWords(status), At: time.Now()})
			if code = exitCode(status); !s.again(status) {
				return code, nil
			}
			if time.Since(l.began) >= s.BackoffMax {
				s.pauses.Reset()
			}
		}
		if !s.pause() {
			return code, nil
		}
	}
}

// start starts the command for the nth time.
func (s *supervisor) start(n int) (*life, error) {
	links, err := s.home.listen(n, s.Log)
	if err != nil {
		return nil, err
	}
	l := &life{links: links, began: time.Now()}
	s.passed = nil
	if s.Cgroup {
		if l.cgroup, err = s.makeCgroup(n); err != nil {
			s.Log.Debug("the command gets no cgroup of its own", zap.Error(err))
		}
	}
	err = s.launch(l)
	if err != nil && l.cgroup != nil { // the system may let us make a cgroup, and not let us enter it
		l.cgroup.remove()
		l.cgroup = nil
		err = s.launch(l)
	}
	if err != nil {
		links.close()
		return nil, err
	}
	s.Log.Info("started the command", zap.Int("pid", l.process.Pid), zap.Bool("cgroup", l.cgroup != nil))
	return l, nil
}

// launch starts a process of the command. Only the supervisor's goroutine waits for children, so nobody takes its exit
// status before watch does.
func (s *supervisor) launch(l *life) error {
	cmd := exec.CommandContext(context.Background(), s.Command[0], s.Command[1:]...) // only its end ends it
	cmd.Env = append(withoutAddress(s.Env), leaselink.Env+"="+leaselink.Address(l.links.path))
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if s.Stdin != nil {
		cmd.Stdin = s.Stdin
	}
	if s.Stdout != nil {
		cmd.Stdout = s.Stdout
	}
	if s.Stderr != nil {
		cmd.Stderr = s.Stderr
	}
	if l.cgroup != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, l.cgroup.fd()
	}
	if err := cmd.Start(); err != nil {
		return &StartError{s.Command[0], err}
	}
	l.process = cmd.Process
	s.children.main = cmd.Process.Pid
	return nil
}

// watch passes signals on until the command's process has ended, and returns how it ended.
func (s *supervisor) watch(l *life) syscall.WaitStatus {
	defer func() { _ = l.process.Release() }()
	for {
		if status, ended := s.children.reap(); ended {
			s.Log.Info("the command ended", zap.Int("pid", l.process.Pid), how(status),
				zap.Duration("ran", time.Since(l.began).Round(time.Millisecond)))
			return status
		}
		select {
		case <-s.died:
		case sig := <-s.Signals:
			s.pass(l, sig)
		case <-s.stop:
			s.stop = nil
			s.pass(l, Signal{Signal: syscall.SIGTERM})
		}
	}
}

// pass passes a signal on to the command's process, unless the terminal has sent it to that process as well.
func (s *supervisor) pass(l *life, sig Signal) {
	s.passed = sig.Signal
	s.ending = s.ending || asksToEnd(sig.Signal)
	if sig.Key && l.inOurGroup() {
		s.Log.Debug("the terminal has sent a signal to the command as well", zap.Stringer("signal", sig.Signal))
		return
	}
	switch err := l.process.Signal(sig.Signal); {
	case err == nil:
		s.Log.Debug("passed a signal on", zap.Stringer("signal", sig.Signal))
	case !errors.Is(err, os.ErrProcessDone):
		s.Log.Warn("cannot pass on a signal", zap.Stringer("signal", sig.Signal), zap.Error(err))
	}
}

// inOurGroup reports whether the command's process is in the group of this process, as it is unless it has left.
func (l *life) inOurGroup() bool {
	group, err := unix.Getpgid(l.process.Pid)
	return err == nil && group == unix.Getpgrp()
}

// asksToEnd reports whether a signal means that the command is not started again.
func asksToEnd(sig os.Signal) bool {
	return sig == syscall.SIGTERM || sig == syscall.SIGINT || sig == syscall.SIGQUIT
}

// finish ends what the command has left, and then revokes its leases.
func (s *supervisor) finish(l *life, end End) {
	gone := s.endRest(l)
	end.Leases = l.links.finish()
	defer l.cgroup.remove() // which takes the kernel longer than anything else here
	switch {
	case !gone:
		s.Log.Error("processes of the command do not end, so its leases are not revoked: they expire by themselves",
			zap.Ints("pids", s.children.list()), zap.Int("leases", len(end.Leases)),
			zap.Duration("waited", time.Since(end.At)))
	case len(end.Leases) > 0:
		s.Log.Debug("everything that the command has started is gone", zap.Duration("took", time.Since(end.At)))
		s.Revoke(context.WithoutCancel(s.ctx), end)
	}
}

// endRest kills what the command has left, until nothing is left. It returns false if something still lives after
// EndPatience.
func (s *supervisor) endRest(l *life) bool {
	late := time.NewTimer(s.EndPatience)
	defer late.Stop()
	for tick := time.Millisecond; ; tick = min(2*tick, 50*time.Millisecond) {
		s.children.reap()
		if s.children.none() && l.cgroup.empty() {
			return true
		}
		l.cgroup.kill()
		s.children.kill()
		again := time.NewTimer(tick) // the end of a process that is no child raises no signal
		select {
		case <-s.died:
		case <-again.C:
		case <-late.C:
			again.Stop()
			return false
		}
		again.Stop()
	}
}

// again reports whether the command is started again after it has ended in this way. A signal that was passed on and
// has ended it was meant to end it.
func (s *supervisor) again(status syscall.WaitStatus) bool {
	meant := status.Signaled() && s.passed == status.Signal()
	return s.Restart && !s.ending && !meant && exitCode(status) != 0
}

// pause waits before the command is started again. It returns false if a signal ends the supervisor meanwhile.
func (s *supervisor) pause() bool {
	wait := s.pauses.Next()
	s.Log.Info("starting the command again after a pause", zap.Duration("pause", wait.Round(time.Millisecond)))
	over := time.NewTimer(wait)
	defer over.Stop()
	for {
		select {
		case <-over.C:
			return true
		case <-s.died:
			s.children.reap()
		case <-s.stop:
			return false
		case sig := <-s.Signals:
			if asksToEnd(sig.Signal) || sig.Signal == syscall.SIGHUP {
				return false
			}
		}
	}
}

// exitCode is the exit code that the supervisor passes on.
func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// inWords says how a process ended, as package os does.
func inWords(status syscall.WaitStatus) string {
	switch {
	case status.Signaled() && status.CoreDump():
		return "signal: " + status.Signal().String() + " (core dumped)"
	case status.Signaled():
		return "signal: " + status.Signal().String()
	default:
		return fmt.Sprintf("exit status %d", status.ExitStatus())
	}
}

func how(status syscall.WaitStatus) zap.Field {
	if status.Signaled() {
		return zap.String("signal", unix.SignalName(status.Signal()))
	}
	return zap.Int("exit_code", status.ExitStatus())
}

// withoutAddress drops the address of an outer supervisor.
func withoutAddress(env []string) []string {
	prefix := leaselink.Env + "="
	kept := make([]string, 0, len(env)+1)
	for _, pair := range env {
		if len(pair) < len(prefix) || pair[:len(prefix)] != prefix {
			kept = append(kept, pair)
		}
	}
	return kept
}

// errNoProc is the error of a system without /proc.
var errNoProc = fmt.Errorf("/proc is needed to find the processes that a command has left: %w", errors.ErrUnsupported)
