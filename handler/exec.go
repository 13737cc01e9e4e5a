package handler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// GuardArg is the hidden first argument that asks a program to be a guard. The program's main must check for it before
// it does anything else, and call RunGuard:
//
//	if len(os.Args) > 1 && os.Args[1] == handler.GuardArg {
//		os.Exit(handler.RunGuard(os.Args[2:]))
//	}
const GuardArg = "__guard"

// DefaultGrace is the default time that a process gets between SIGTERM and SIGKILL.
const DefaultGrace = 10 * time.Second

// killWait is how long a guard may take to carry out an order to kill. After that, the agent kills the guard itself.
const killWait = 2 * time.Second

// ExecConfig configures NewExec, which refuses an invalid value with a *drm.InputError. The zero value of every field
// but Command stands for its default.
type ExecConfig struct {
	// Command is the program and its arguments; ParseCommand splits a command line into them. A program whose name has
	// no slash is looked up in PATH each time it is started. Required.
	Command []string
	// Dir is the folder that the processes run in. Default: the agent's.
	Dir string
	// Env is added to the agent's environment, as KEY=VALUE. No name in it may begin with DRM_.
	Env []string
	// Agent is the address at which the program answers requests about its member (package httpapi), in the form of
	// http://127.0.0.1:4711 or unix:/path: the processes find it in DRM_AGENT. Default: none, and no DRM_AGENT.
	Agent string
	// Grace is how long a process may take to end after SIGTERM, before it gets SIGKILL. Raised, it can finish more of
	// its work, and the resource waits longer for its next member. drm.Config.TerminateTimeout cuts a longer grace
	// short. Default 10 s; 1 ms to 24 h.
	Grace time.Duration
	// Backoff is the pause before a process that ended by itself is started again. It doubles each time up to
	// BackoffMax, and is moved by up to a fifth at random. Once a process has run for BackoffMax, the next pause is
	// Backoff again. Default 1 s; 1 ms to 24 h.
	Backoff time.Duration
	// BackoffMax is the longest pause. Default 1 min, or Backoff if that is longer; Backoff to 24 h.
	BackoffMax time.Duration
	// Stdout and Stderr receive the output of the processes, in the form that Output says. Default: both are the
	// agent's standard error.
	Stdout, Stderr io.Writer
	// Output is the form in which the output is passed on. Default: OutputRaw.
	Output Output
	// ReadyLine, if not empty, is a regular expression (of package regexp): a process is ready once a line of its
	// output matches. Until then, Handle does not return, so that the resource's state is claimed; a process that ended
	// by itself and was started again leaves the state failed until it is ready. At most the first 8 KiB of a line
	// count. The output goes through the agent then, also with OutputRaw and OutputNone. Not together with Notify.
	ReadyLine string
	// Notify is another way to be ready: the process sends READY=1 to the datagram socket that NOTIFY_SOCKET in its
	// environment names, as services of systemd do (sd_notify, systemd-notify --ready). It costs one file descriptor in
	// the agent per process. Default: false; a process is ready once its program was started.
	Notify bool
	// ReadyTimeout is how long a process may take to be ready, with ReadyLine or Notify. Then Handle fails, and DRM
	// terminates and begins anew. drm.Config.HandleTimeout bounds it too. A process that Exec itself has started again
	// is ended, and another one is started after the pause. Raised, slow programs have time to start; lowered, one that
	// hangs at its start is noticed sooner. Default 30 s; 1 ms to 24 h, or drm.Forever.
	ReadyTimeout time.Duration
	// StoppedTimeout is how long a process may be stopped (SIGSTOP, SIGTSTP and the like; its state is failed
	// meanwhile) before it is given up with drm.Claim.Fail: terminated, and begun anew. Lowered, a resource is handled
	// again sooner; raised, there is time to look at a stopped process. With drm.Forever it stays, and failed, until it
	// goes on. Default 5 s; 1 ms to 24 h, or drm.Forever.
	StoppedTimeout time.Duration
	// Check is a program and its arguments, as in Command, that says whether a process still works: DRM runs it for
	// each resource, every drm.Config.CheckInterval. It gets what the process gets, and the process id in DRM_PID. Exit
	// status 0 says that all is well; another end counts as a failed check. Its output is not passed on; the last line
	// becomes part of the error. It is killed at its timeout. Half of drm.Config.CheckTimeout may pass until it is
	// started; at most half as many checks are being started at once as StartConcurrency says. Default: none, so that
	// nothing is checked.
	Check []string
	// OnCheckError is called when a check could not be made, which says nothing about the resource, so that it has not
	// failed: its program could not be started, or not in time, or was killed together with its guard. Optional. It is
	// called from the goroutine of the check.
	OnCheckError func(c drm.Claim, err error)
	// OnExit is called for each process that ended by itself, and for each restart that failed. Optional. It is called
	// from the resource's own goroutine, and the restart waits for it.
	OnExit func(c drm.Claim, err error)
	// GuardCommand starts a guard process; Command is appended to it. The guard should have the same version of this
	// package as the agent, for as long as the agent runs. Default: this very program with GuardArg; its main needs the
	// lines shown there. On Linux the default works even after the program's file was replaced or removed. On macOS no
	// further guard can be started then, and the error says why.
	GuardCommand []string
	// StartConcurrency is how many processes are started at once. The others wait for their turn, and are not started
	// if their claim has ended by then. A start that takes longer than a second (its file system hangs, say) makes room
	// for the next one. Raised, many resources begin sooner on a machine with many processors; too high, the starts
	// leave no processor for the renewal of the leases. Default: twice GOMAXPROCS, but 4 to 64; 1 to 100,000.
	StartConcurrency int
	// ReapOrphans makes the Exec take the exit status of every child of this process that it did not start itself, if
	// the process is process 1 of a container, or a subreaper, which becomes the parent of processes that lost theirs.
	// Set it in a program that may be one of these. Do not set it in such a program if that also starts processes by
	// other means than one Exec: the program would not learn how they ended. Default: false (drmctl sets it). Linux
	// only.
	ReapOrphans bool
}

// Output is the form in which an Exec passes on the output of its processes.
type Output int

const (
	// OutputRaw passes the output on unchanged. If the writer is an *os.File, the processes write to the file
	// themselves. Output for any other writer goes through the agent, one Write at a time; a slow writer makes the
	// processes wait.
	OutputRaw Output = iota
	// OutputPrefix puts the resource's id before each line, as in "[feed-1] line". The id is quoted if it has spaces,
	// brackets or unprintable characters. Each Write has whole lines, which may be those of several processes. A line
	// is cut after 8 KiB. A slow writer makes the processes wait. Once a writer has taken nothing for a second, they
	// wait no longer: lines are dropped, and a line of its own says how many. It costs one file descriptor per process,
	// or two if Stdout and Stderr differ.
	OutputPrefix
	// OutputNone discards the output.
	OutputNone
)

// startAnyway is how long a start may keep the next one waiting.
const startAnyway = time.Second

// Exec is a drm.Handler that runs one process per resource. The contract is docs/exec.md. In short:
//
//   - The process finds DRM_APP, DRM_MEMBER, DRM_RESOURCE_ID and DRM_TOKEN in its environment (and DRM_AGENT, where
//     the agent answers requests), and the resource's object on its standard input.
//   - Terminate sends SIGTERM to its process group (and SIGCONT, in case it is stopped) and, after a grace, SIGKILL.
//   - A process that ends by itself is started again after a pause. The claim's state is failed until the new one has
//     run for as long as the pause was. It is failed too while a process is stopped (SIGSTOP), and a process that stays
//     stopped is given up.
//   - It can wait until a process says that it is ready (ReadyLine, Notify), and check it now and then (Check).
//   - The process and its group are killed when the agent dies, or has not renewed them by the claim's deadline.
//
// It has no Update: when the data of a resource change, its process is terminated and a new one gets the new data.
type Exec struct {
	cfg     ExecConfig
	guards  *guards
	ready   readiness
	starts  chan struct{} // has one element for each start in progress that has lasted for less than startAnyway
	checks  chan struct{} // has one element for each start of a check in progress
	restart restarter
	tasks   tasks
	running sync.Map // of *condition by key: of all tasks
}

var (
	_ drm.Handler = (*Exec)(nil)
	_ drm.Checker = (*Exec)(nil)
)

// NewExec makes an Exec. It starts nothing yet. An invalid cfg is a *drm.InputError that names the field. Exec works
// on Linux and macOS; on other systems the error matches errors.ErrUnsupported.
func NewExec(cfg ExecConfig) (*Exec, error) {
	if !execSupported {
		return nil, fmt.Errorf("exec handler on %s: %w", runtime.GOOS, errors.ErrUnsupported)
	}
	err := cfg.checkTexts()
	if err != nil {
		return nil, err
	}
	if cfg.Grace, err = checkDuration("Grace", cfg.Grace, DefaultGrace, minDuration); err != nil {
		return nil, err
	}
	first, most, err := checkBackoff(cfg.Backoff, cfg.BackoffMax)
	if err != nil {
		return nil, err
	}
	if cfg.StartConcurrency == 0 {
		cfg.StartConcurrency = min(max(4, 2*runtime.GOMAXPROCS(0)), 64)
	}
	if n := cfg.StartConcurrency; n < 1 || n > 100_000 {
		return nil, &drm.InputError{Field: "StartConcurrency", Value: strconv.Itoa(n), Want: "1 to 100000"}
	}
	if cfg.Output < OutputRaw || cfg.Output > OutputNone {
		return nil, &drm.InputError{
			Field: "Output",
			Value: strconv.Itoa(int(cfg.Output)),
			Want:  "OutputRaw, OutputPrefix or OutputNone",
		}
	}
	ready, err := cfg.checkSigns()
	if err != nil {
		return nil, err
	}
	same := sameWriter(cfg.Stdout, cfg.Stderr)
	cfg.Stdout, cfg.Stderr = shareWriters(cfg.Stdout, cfg.Stderr)
	guard, check := cfg.GuardCommand, func() error { return nil }
	if len(guard) == 0 {
		if guard, check, err = ownGuard(); err != nil {
			return nil, fmt.Errorf("exec handler: find the guard's program: %w", err)
		}
	}
	return &Exec{
		cfg:     cfg,
		guards:  newGuards(slices.Concat(guard, cfg.Command), cfg, same, check),
		ready:   ready,
		starts:  make(chan struct{}, cfg.StartConcurrency),
		checks:  make(chan struct{}, max(1, cfg.StartConcurrency/2)),
		restart: restarter{first, most, cfg.OnExit},
	}, nil
}

// checkTexts checks the fields that become the arguments, the environment and the folder of a process.
func (cfg *ExecConfig) checkTexts() error {
	if len(cfg.Command) == 0 || cfg.Command[0] == "" {
		return &drm.InputError{
			Field: "Command",
			Value: strings.Join(cfg.Command, " "),
			Want:  "a program and its arguments",
		}
	}
	if len(cfg.Check) > 0 && cfg.Check[0] == "" {
		return &drm.InputError{Field: "Check", Value: strings.Join(cfg.Check, " "), Want: "a program and its arguments"}
	}
	given := slices.Concat(cfg.Command, cfg.Check, cfg.Env, cfg.GuardCommand, []string{cfg.Dir, cfg.Agent})
	for _, text := range given {
		if strings.ContainsRune(text, 0) {
			return &drm.InputError{
				Field: "Command",
				Value: "text with a NUL byte",
				Want:  "arguments, Env, Agent and Dir without one",
			}
		}
	}
	for _, pair := range cfg.Env {
		name, _, ok := strings.Cut(pair, "=")
		if !ok || name == "" || strings.HasPrefix(name, "DRM_") {
			return &drm.InputError{
				Field: "Env",
				Value: name, // without the value, which may be secret
				Want:  "NAME=VALUE, with a name that does not begin with DRM_",
			}
		}
	}
	return nil
}

// Handle starts a process and returns once it runs and, with ReadyLine or Notify, is ready. The error says why it could
// not be started, or how it ended before it was ready. It matches ErrClosed after Close. It matches
// drm.ErrOutcomeUnknown if the process runs and is not ready in time; Terminate then ends the process.
//
// If an earlier process of the resource is ending, because its Terminate failed or because of drm.Manager.Reannounce,
// Handle waits until it is gone. If ctx ends before that, the error matches ErrRunning and drm.ErrOutcomeUnknown, so
// that Terminate waits for that process. It matches ErrRunning alone if nobody has asked that process to end.
func (e *Exec) Handle(ctx context.Context, c drm.Claim) error {
	return e.tasks.start(ctx, c, func(soft, hard context.Context) (work, error) {
		state := newCondition(soft, c, e.cfg.StoppedTimeout)
		e.running.Store(keyOf(c), state)
		forget := func() { e.running.Delete(keyOf(c)) }
		started, err := e.spawn(soft, hard, c, state)
		if err == nil {
			err = e.awaitReady(soft, started, state.stuck)
		}
		if started == nil || isDone(started) && err != nil {
			forget()
			return nil, err
		}
		return func(soft, hard context.Context) {
			defer forget()
			defer state.end()
			e.supervise(soft, hard, c, state, started)
		}, err
	})
}

// supervise waits for the process that Handle started, and then for each one that replaces it.
func (e *Exec) supervise(soft, hard context.Context, c drm.Claim, state *condition, first *process) {
	var before error // how the process before ended
	e.restart.run(soft, c, state.failing, func(begun func()) (err error) {
		defer func() { before = err }()
		p := first
		first = nil
		if p == nil {
			if p, err = e.again(soft, hard, c, state, before); err != nil {
				return err
			}
		}
		begun()
		return e.wait(soft, hard, p)
	})
	if first != nil { // soft ended before the first round
		_ = e.wait(soft, hard, first)
	}
}

// again starts a process in place of one that ended because of before, and returns it once it is ready. It leaves
// nothing behind if it fails.
func (e *Exec) again(
	soft, hard context.Context, c drm.Claim, state *condition, before error,
) (*process, error) {
	p, err := e.spawn(soft, hard, c, state)
	if err != nil || e.ready.how == readyAtOnce {
		return p, err
	}
	state.failing(fmt.Errorf("%w; process %d was started in its place, and is not ready yet", before, p.pid.Load()))
	err = e.awaitReady(soft, p, nil)
	switch {
	case err == nil:
		return p, nil
	case soft.Err() != nil:
		_ = e.wait(soft, hard, p)
	case !isDone(p) && !e.ask(hard, p):
		p.kill()
	}
	return nil, err
}

// spawn starts a process when its turn has come. If soft ends just as the process begins to run, the process is asked
// to end like any other: it may have done something already that it must undo. Where it is not ready yet, that is left
// to who waits until it is.
func (e *Exec) spawn(soft, hard context.Context, c drm.Claim, state *condition) (*process, error) {
	if soft.Err() != nil {
		return nil, context.Cause(soft)
	}
	select {
	case e.starts <- struct{}{}:
	case <-soft.Done():
		return nil, context.Cause(soft)
	}
	makeRoom := sync.OnceFunc(func() { <-e.starts })
	defer makeRoom()
	late := time.AfterFunc(startAnyway, makeRoom)
	defer late.Stop()
	if soft.Err() != nil { // both channels were ready, and select chose the other one
		return nil, context.Cause(soft)
	}
	starting, done := outlast(soft, hard, killWait)
	defer done()
	p, err := startProcess(starting, e.guards, c, launch{ready: e.ready, halt: state.halted})
	if err != nil {
		return nil, err
	}
	state.process.Store(p)
	if soft.Err() != nil && e.ready.how == readyAtOnce { // otherwise awaitReady leaves the process to Terminate
		_ = e.wait(soft, hard, p)
		return nil, context.Cause(soft)
	}
	return p, nil
}

// outlast makes a context that ends when hard ends, or when a time has passed since soft ended.
func outlast(soft, hard context.Context, by time.Duration) (ctx context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(hard)
	gone := make(chan struct{})
	unhook := context.AfterFunc(soft, func() {
		defer close(gone)
		late := time.NewTimer(by)
		defer late.Stop()
		select {
		case <-late.C:
			cancel(context.Cause(soft))
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		cancel(nil)
		if !unhook() {
			<-gone
		}
	}
}

// wait returns how the process ended, once nothing is left of it. If soft ends for one of the reasons of inOrder, the
// process is asked to end. It is killed if soft ends for another reason, if hard ends, or if it does not end though
// asked.
func (e *Exec) wait(soft, hard context.Context, p *process) error {
	select {
	case <-p.done:
		return p.err
	case <-soft.Done():
	}
	if !inOrder(soft) || hard.Err() != nil || !e.ask(hard, p) {
		p.kill()
	}
	return p.err
}

// ask asks a process to end, and reports whether it did before hard ended. If it does not, the guard kills it after
// Grace; ask returns false if the guard hangs.
func (e *Exec) ask(hard context.Context, p *process) bool {
	p.terminate(e.cfg.Grace)
	late := time.NewTimer(e.cfg.Grace + killWait)
	defer late.Stop()
	select {
	case <-p.done:
		return true
	case <-hard.Done():
	case <-late.C:
	}
	return false
}

// Terminate sends SIGTERM to the process group of the resource and waits until the group is gone. It sends SIGKILL
// after ExecConfig.Grace, or when ctx or the claim ends. An error means that something of the group is still there.
func (e *Exec) Terminate(ctx context.Context, c drm.Claim) error {
	return e.tasks.terminate(ctx, c, 2*killWait)
}

// HandleFailed does nothing.
func (e *Exec) HandleFailed(context.Context, drm.Claim, error) {}

// TerminateFailed does nothing.
func (e *Exec) TerminateFailed(context.Context, drm.Claim, error) {}

// Close ends all processes that still run, as Terminate does, and the guards; every later Handle fails with ErrClosed.
// Call it after Manager.Stop, which terminates everything unless it runs out of time. The error says how many
// resources still have something running when ctx ends. Close may be called again.
func (e *Exec) Close(ctx context.Context) error {
	err := e.tasks.close(ctx, 2*killWait)
	e.guards.close(ctx)
	return err
}

// execEnv returns the environment of a guard, which its processes inherit: the agent's own and extra, without the
// variables that configure DRM, one of which has etcd's password; and the agent's address, if it has one.
func execEnv(own, extra []string, agent string) []string {
	configuresDRM := func(pair string) bool { return strings.HasPrefix(pair, "DRM_") }
	env := slices.DeleteFunc(slices.Concat(own, extra), configuresDRM)
	if agent != "" {
		env = append(env, "DRM_AGENT="+agent)
	}
	return env
}

// claimEnv returns the variables that a process gets in addition to its guard's.
func claimEnv(c drm.Claim) []string {
	return []string{
		"DRM_APP=" + c.App,
		"DRM_MEMBER=" + c.Member,
		"DRM_RESOURCE_ID=" + c.Resource.ID,
		fmt.Sprintf("DRM_TOKEN=%d", c.Token),
	}
}

// sameWriter reports whether two writers are known to be the same one.
func sameWriter(a, b io.Writer) (same bool) {
	defer func() { _ = recover() }() // comparing panics if their type cannot be compared
	return a == b
}

// shareWriters fills in the defaults, and makes writers that are not files safe for many processes at once.
func shareWriters(stdout, stderr io.Writer) (io.Writer, io.Writer) {
	mu := new(sync.Mutex)
	share := func(w io.Writer) io.Writer {
		switch w := w.(type) {
		case nil:
			return os.Stderr
		case *os.File:
			return w
		default:
			return &lockedWriter{mu, w}
		}
	}
	return share(stdout), share(stderr)
}

// lockedWriter is one of a handler's two writers. Both have the same lock, because they may be the same writer.
type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
