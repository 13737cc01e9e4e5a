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
	// ReapOrphans makes the Exec take the exit status of every child of this process that it did not start itself. Set
	// it in a program that is process 1 of a container, or a subreaper, because such a program becomes the parent of
	// processes that lost theirs. Do not set it in a program that also starts processes by other means than one Exec:
	// the program would not learn how they ended. Default: false (drmctl sets it). Linux only.
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
//   - Terminate sends SIGTERM to its process group and, after a grace, SIGKILL.
//   - A process that ends by itself is started again after a pause. The claim's state is failed until the new one has
//     run for as long as the pause was. It is failed too while a process is stopped (SIGSTOP).
//   - The process and its group are killed when the agent dies, or has not renewed them by the claim's deadline.
//
// It has no Update: when the data of a resource change, its process is terminated and a new one gets the new data.
type Exec struct {
	cfg     ExecConfig
	guards  *guards
	starts  chan struct{} // has one element for each start in progress that has lasted for less than startAnyway
	restart restarter
	tasks   tasks
}

var _ drm.Handler = (*Exec)(nil)

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
		starts:  make(chan struct{}, cfg.StartConcurrency),
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
	for _, text := range slices.Concat(cfg.Command, cfg.Env, cfg.GuardCommand, []string{cfg.Dir, cfg.Agent}) {
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

// Handle starts a process and returns once it runs. The error says why it could not be started. It matches ErrRunning
// if an earlier process of the resource still runs because its Terminate failed, and ErrClosed after Close.
func (e *Exec) Handle(ctx context.Context, c drm.Claim) error {
	state := &condition{claim: c}
	return e.tasks.start(ctx, c, func(soft, hard context.Context) (work, error) {
		started, err := e.spawn(soft, hard, c, state)
		if err != nil {
			return nil, err
		}
		return func(soft, hard context.Context) { e.supervise(soft, hard, c, state, started) }, nil
	})
}

// supervise waits for the process that Handle started, and then for each one that replaces it.
func (e *Exec) supervise(soft, hard context.Context, c drm.Claim, state *condition, first *process) {
	e.restart.run(soft, c, state.failing, func() error {
		p := first
		first = nil
		if p == nil {
			var err error
			if p, err = e.spawn(soft, hard, c, state); err != nil {
				return err
			}
		}
		return e.wait(soft, hard, p)
	})
	if first != nil { // soft ended before the first round
		_ = e.wait(soft, hard, first)
	}
}

// spawn starts a process when its turn has come. If soft ends just as the process begins to run, the process is asked
// to end like any other: it may have done something already that it must undo.
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
	p, err := startProcess(starting, e.guards, c, state.halted)
	if err != nil {
		return nil, err
	}
	if soft.Err() != nil {
		_ = e.wait(soft, hard, p)
		return nil, context.Cause(soft)
	}
	return p, nil
}

// condition keeps the two reasons for which a resource's state can be failed, and reports the one that counts. A
// process that ends again and again can be stopped (SIGSTOP) as well.
type condition struct {
	claim drm.Claim
	mu    sync.Mutex // held during a report, so that reports arrive in the order of their causes
	fails error
	halts error
}

// failing notes why the process ended; nil says that a process has run for long enough since.
func (s *condition) failing(err error) { s.set(&s.fails, err) }

// halted notes that the process is stopped; nil says that it goes on, or has ended.
func (s *condition) halted(err error) { s.set(&s.halts, err) }

func (s *condition) set(what *error, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if *what == nil && err == nil {
		return
	}
	*what = err
	if s.halts != nil {
		s.claim.Report(s.halts)
		return
	}
	s.claim.Report(s.fails)
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
	if inOrder(soft) && hard.Err() == nil {
		p.terminate(e.cfg.Grace)
		late := time.NewTimer(e.cfg.Grace + killWait) // the guard kills it after Grace, unless the guard hangs
		defer late.Stop()
		select {
		case <-p.done:
			return p.err
		case <-hard.Done():
		case <-late.C:
		}
	}
	p.kill()
	return p.err
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
