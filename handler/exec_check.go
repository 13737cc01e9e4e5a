package handler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/distributed-resource-manager/drm"
)

// Check runs ExecConfig.Check, and returns an error unless it ends with exit status 0. It returns nil without running
// it while the resource has no process, or one that is not ready: Exec starts it again by itself, and the state says
// so. When ctx ends, or the resource is terminated, what it started is killed. Without ExecConfig.Check the error is
// errors.ErrUnsupported.
func (e *Exec) Check(ctx context.Context, c drm.Claim) error {
	if len(e.cfg.Check) == 0 {
		return errors.ErrUnsupported
	}
	known, ok := e.running.Load(keyOf(c))
	if !ok {
		return failure("check", c, errors.New("it has no process"))
	}
	state := known.(*condition)
	if state.claim.Token != c.Token || !state.enter() {
		return failure("check", c, errors.New("it has no process"))
	}
	defer state.running.Done()
	p := state.process.Load()
	if p == nil || isDone(p) || !p.isReady() {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(state.soft, func() { cancel(context.Cause(state.soft)) })()
	return e.runCheck(ctx, c, p.pid.Load())
}

// runCheck runs the check's program. It returns when nothing of it is left, or soon after ctx ended.
func (e *Exec) runCheck(ctx context.Context, c drm.Claim, pid int64) error {
	said := &tail{}
	p, err := e.startCheck(ctx, c, said, pid)
	if err == nil {
		select {
		case <-p.done:
			if !p.byItself {
				err = p.err
			}
		case <-ctx.Done():
			p.giveUp()
		}
	}
	switch {
	case ctx.Err() != nil:
		return failure("check", c, context.Cause(ctx))
	case err != nil:
		if e.cfg.OnCheckError != nil {
			e.cfg.OnCheckError(c, failure("check", c, err))
		}
		return nil
	case p.ok:
		return nil
	}
	select { // a descendant may hold the output open
	case <-said.ended:
	case <-ctx.Done():
	}
	if line := said.last(); line != "" {
		return fmt.Errorf("%w: %s", p.err, line)
	}
	return p.err
}

// errNoTurn is why a check was not made that could not be started in half of its time.
var errNoTurn = errors.New("it could not be started in half of its time")

// startCheck starts the check's program when its turn has come. If checks had no turns, they could make a guard start
// so many programs at once on a machine with much to do that it would not get to the deadlines of its processes.
func (e *Exec) startCheck(ctx context.Context, c drm.Claim, said *tail, pid int64) (*process, error) {
	starting, cancel := ctx, context.CancelFunc(func() {})
	if until, ok := ctx.Deadline(); ok {
		starting, cancel = context.WithTimeoutCause(ctx, time.Until(until)/2, errNoTurn)
	}
	defer cancel()
	select {
	case e.checks <- struct{}{}:
	case <-starting.Done():
		return nil, context.Cause(starting)
	}
	defer func() { <-e.checks }()
	return startProcess(starting, e.guards, c, launch{
		args: e.cfg.Check, env: []string{"DRM_PID=" + strconv.FormatInt(pid, 10)},
		halt: func(error) {}, output: said,
	})
}

// isDone reports whether nothing is left of a process.
func isDone(p *process) bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// tailMost is how many bytes of a check's last line are shown.
const tailMost = 256

// tail keeps the last line that is not empty of what a check prints. The goroutine that reads the output uses it until
// ended is closed.
type tail struct {
	ended chan struct{} // made when the output is opened
	line  []byte        // the line that has no end yet
	whole []byte        // the last whole line
}

func (t *tail) take(text, room []byte) []byte {
	for len(text) > 0 {
		line, rest, whole := bytes.Cut(text, []byte{'\n'})
		t.line = append(t.line, line[:min(len(line), tailMost-len(t.line))]...)
		if whole {
			t.turn()
		}
		text = rest
	}
	return room
}

// Write implements io.Writer. os/exec writes from one goroutine, if both outputs of a program are the same writer.
func (t *tail) Write(text []byte) (int, error) {
	t.take(text, nil)
	return len(text), nil
}

// turn begins a new line.
func (t *tail) turn() {
	if line := bytes.TrimSpace(t.line); len(line) > 0 {
		t.whole = append(t.whole[:0], line...)
	}
	t.line = t.line[:0]
}

func (t *tail) end() {
	t.turn()
	close(t.ended)
}

// last returns the last line, with a space for each unprintable character. It must be called after the end only, and
// returns nothing before.
func (t *tail) last() string {
	select {
	case <-t.ended:
	default:
		return ""
	}
	return printable(strings.ToValidUTF8(string(t.whole), ""))
}

// printable replaces the characters of a text that could affect a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}

// checkSigns checks what says that a process is ready, that it is stopped for too long, and how it is checked.
func (cfg *ExecConfig) checkSigns() (ready readiness, err error) {
	for _, f := range []struct {
		name  string
		value *time.Duration
		def   time.Duration
	}{
		{"ReadyTimeout", &cfg.ReadyTimeout, DefaultReadyTimeout},
		{"StoppedTimeout", &cfg.StoppedTimeout, DefaultStoppedTimeout},
	} {
		if *f.value == drm.Forever {
			continue
		}
		if *f.value, err = checkDuration(f.name, *f.value, f.def, minDuration); err != nil {
			var input *drm.InputError
			if errors.As(err, &input) {
				input.Want += ", or Forever"
			}
			return ready, err
		}
	}
	return newReadiness(cfg.ReadyLine, cfg.Notify)
}
