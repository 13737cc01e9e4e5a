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

// GuardArg is the hidden first argument by which a program's main, before anything else, hands over to RunGuard:
//
//	if len(os.Args) > 1 && os.Args[1] == handler.GuardArg {
//		os.Exit(handler.RunGuard(os.Args[2:]))
//	}
const GuardArg = "__guard"

// DefaultGrace is how long a process has between SIGTERM and SIGKILL.
const DefaultGrace = 10 * time.Second

// killWait is how long a guard may take to do what it was told, before it is killed with its group.
const killWait = 2 * time.Second

// ExecConfig is what NewExec needs to know. A value that cannot be is a *drm.InputError.
type ExecConfig struct {
	// Command is the program and its arguments; ParseCommand makes it of one string. A program without a slash is
	// looked up in PATH, each time it is started. Required.
	Command []string
	// Dir is where it runs. Default: where the agent runs.
	Dir string
	// Env is added to the environment, as KEY=VALUE. Names that begin with DRM_ are not for it to set.
	Env []string
	// Grace is how long the process has to end after SIGTERM, before SIGKILL. Raised, it may finish more in order,
	// and the resource waits longer for its next member; past drm.Config.TerminateTimeout the kill comes anyway.
	// Default 10 s; 1 ms to 24 h.
	Grace time.Duration
	// Backoff is the pause before a process that ended by itself is started again. It doubles each time up to
	// BackoffMax, is moved by up to a fifth at random, and begins anew once a process ran for BackoffMax.
	// Default 1 s; 1 ms to 24 h.
	Backoff time.Duration
	// BackoffMax bounds that pause. Default 1 min, or Backoff if that is more; Backoff to 24 h.
	BackoffMax time.Duration
	// Stdout and Stderr get what the processes write, as Output says. Default: both to the agent's standard error.
	Stdout, Stderr io.Writer
	// Output is what becomes of it on the way. Default: OutputRaw.
	Output Output
	// OnExit is told of each process that ended by itself, and of each restart that did not succeed. Optional. It is
	// called from the resource's own goroutine, and the restart waits for it.
	OnExit func(c drm.Claim, err error)
	// GuardCommand starts a guard process; the Command is appended. It should be of the version of this package that
	// the program has, for as long as it runs. Default: this very program with GuardArg, which needs the lines shown
	// there in its main. That is so on Linux even when its file has been replaced or removed since; on macOS no further
	// guard is started then, and the error says why.
	GuardCommand []string
	// StartConcurrency is how many processes are started at once; the others wait for their turn, and none is started
	// whose claim has ended by then. A start that takes longer than a second, since its file system hangs, say, makes
	// room for the next. Raised, many resources begin sooner on a machine with many processors; too high, the starts
	// leave no processor to the renewal of the leases. Default: twice GOMAXPROCS, but 4 to 64; 1 to 100,000.
	StartConcurrency int
	// ReapOrphans has the Exec take the exit statuses of all children of this process that it did not start itself. It
	// is for a program that is process 1 of a container, or a subreaper, and so becomes the parent of what loses its
	// own. It is not for one that starts processes otherwise than by one Exec: it would not learn how they ended.
	// Default: false; drmctl does it. Linux only.
	ReapOrphans bool
}

// Output says what becomes of what the processes of an Exec print.
type Output int

const (
	// OutputRaw passes it on as it is. An *os.File is given to the processes themselves; what goes to any other writer
	// passes through the agent, one Write at a time, and a slow one holds the processes up.
	OutputRaw Output = iota
	// OutputPrefix puts the resource's id before each line, as "[feed-1] line", quoted where it has spaces, brackets,
	// or characters that are not printed. Each Write has whole lines, of any number of processes. Of a line that is
	// longer than 8 KiB the rest is left out. A writer that is slow holds the processes up, and one that takes nothing
	// for a second does not any more: lines are dropped then, and counted in a line of their own. It costs a file
	// descriptor a process, or two where Stdout and Stderr differ.
	OutputPrefix
	// OutputNone throws it away.
	OutputNone
)

// startAnyway is how long a start may keep another one waiting.
const startAnyway = time.Second

// Exec is a drm.Handler that runs one process per resource. The contract is docs/exec.md. In short: the process finds
// DRM_APP, DRM_MEMBER, DRM_RESOURCE_ID and DRM_TOKEN in its environment and the resource's object on its standard
// input; Terminate is SIGTERM and, after a grace, SIGKILL, to its process group; if it ends by itself it is started
// again, and the claim's state is failed until it has run for as long as the pause was, and while it is stopped
// (SIGSTOP); and it ends, with its group, when the agent dies, or does not renew it by the claim's deadline.
//
// It has no Update: changed data are given to a new process.
type Exec struct {
	cfg     ExecConfig
	guards  *guards
	starts  chan struct{} // has one for each start that may not have company
	restart restarter
	tasks   tasks
}

var _ drm.Handler = (*Exec)(nil)

// NewExec makes an Exec. It starts nothing yet. It works on Linux and macOS; elsewhere the error matches
// errors.ErrUnsupported.
func NewExec(cfg ExecConfig) (*Exec, error) {
	if !execSupported {
		return nil, fmt.Errorf("exec handler on %s: %w", runtime.GOOS, errors.ErrUnsupported)
	}
	if len(cfg.Command) == 0 || cfg.Command[0] == "" {
		return nil, &drm.InputError{
			Field: "Command",
			Value: strings.Join(cfg.Command, " "),
			Want:  "a program and its arguments",
		}
	}
	for _, text := range slices.Concat(cfg.Command, cfg.Env, cfg.GuardCommand, []string{cfg.Dir}) {
		if strings.ContainsRune(text, 0) {
			return nil, &drm.InputError{
				Field: "Command",
				Value: "text with a NUL byte",
				Want:  "arguments, Env and Dir without one",
			}
		}
	}
	for _, pair := range cfg.Env {
		name, _, ok := strings.Cut(pair, "=")
		if !ok || name == "" || strings.HasPrefix(name, "DRM_") { // the value may be secret, and is not shown
			return nil, &drm.InputError{
				Field: "Env",
				Value: name,
				Want:  "NAME=VALUE, with a name that does not begin with DRM_",
			}
		}
	}
	var err error
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

// Handle starts a process and returns once it runs. The error says why it could not be started, or is ErrRunning if
// an earlier process of the resource has not ended yet (a Terminate failed), or ErrClosed.
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

// supervise waits for the process that Handle started, and for those that follow it.
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
	if first != nil { // soft ended before there was a first round
		_ = e.wait(soft, hard, first)
	}
}

// spawn starts a process when it is its turn. One that began to run as soft ended is asked to end, like any other: it
// may have done something already that it must undo.
func (e *Exec) spawn(soft, hard context.Context, c drm.Claim, state *condition) (*process, error) {
	if soft.Err() != nil {
		return nil, context.Cause(soft)
	}
	select {
	case e.starts <- struct{}{}:
	case <-soft.Done():
		return nil, context.Cause(soft)
	}
	let := sync.OnceFunc(func() { <-e.starts })
	defer let()
	late := time.AfterFunc(startAnyway, let)
	defer late.Stop()
	if soft.Err() != nil { // both were ready
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

// condition is why a resource's state is failed, which its process may be in two ways at once: it ends again and again,
// and it is stopped (SIGSTOP).
type condition struct {
	claim drm.Claim
	mu    sync.Mutex // held while something is reported, so that the last report is the last word
	fails error
	halts error
}

// failing takes why the process ended, and nil once one runs well.
func (s *condition) failing(err error) { s.set(&s.fails, err) }

// halted takes why the process does not run though it is there, and nil once it does.
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

// outlast makes a context that ends with hard, or a time after soft has.
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

// wait returns when the process and its guard have ended. When soft ends in order, the process is asked to end; when it
// does not, or hard ends, or the process does not end though asked, it is killed.
func (e *Exec) wait(soft, hard context.Context, p *process) error {
	select {
	case <-p.done:
		return p.err
	case <-soft.Done():
	}
	if inOrder(soft) && hard.Err() == nil {
		p.terminate(e.cfg.Grace)
		late := time.NewTimer(e.cfg.Grace + killWait) // the guard kills after Grace; this is for a guard that hangs
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

// Terminate sends SIGTERM to the process group of the resource and waits until it is gone; after ExecConfig.Grace, or
// when ctx or the claim ends, with SIGKILL. An error means that something is still there.
func (e *Exec) Terminate(ctx context.Context, c drm.Claim) error {
	return e.tasks.terminate(ctx, c, 2*killWait)
}

// HandleFailed does nothing.
func (e *Exec) HandleFailed(context.Context, drm.Claim, error) {}

// TerminateFailed does nothing.
func (e *Exec) TerminateFailed(context.Context, drm.Claim, error) {}

// Close ends what still runs as Terminate does, and makes every further Handle fail with ErrClosed. It is for after
// Manager.Stop, which terminates everything unless it ran out of time. It may be called again.
func (e *Exec) Close(ctx context.Context) error {
	err := e.tasks.close(ctx, 2*killWait)
	e.guards.close(ctx)
	return err
}

// execEnv is the environment of a guard, and of its processes but for their claims: the agent's own and extra, without
// what configures DRM (which includes etcd's password).
func execEnv(own, extra []string) []string {
	return slices.DeleteFunc(
		slices.Concat(own, extra),
		func(pair string) bool { return strings.HasPrefix(pair, "DRM_") },
	)
}

// claimEnv is what a process has besides.
func claimEnv(c drm.Claim) []string {
	return []string{
		"DRM_APP=" + c.App,
		"DRM_MEMBER=" + c.Member,
		"DRM_RESOURCE_ID=" + c.Resource.ID,
		fmt.Sprintf("DRM_TOKEN=%d", c.Token),
	}
}

// sameWriter says whether two writers are known to be one.
func sameWriter(a, b io.Writer) (same bool) {
	defer func() { _ = recover() }() // they may be of a type that cannot be compared
	return a == b
}

// shareWriters fills in the defaults, and makes writers that are no files safe for many processes at once.
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

// lockedWriter is one of a handler's two writers, which may be the same one.
type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
