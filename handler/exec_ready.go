package handler

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// DefaultReadyTimeout and DefaultStoppedTimeout are the defaults of ExecConfig.ReadyTimeout and StoppedTimeout.
const (
	DefaultReadyTimeout   = 30 * time.Second
	DefaultStoppedTimeout = 5 * time.Second
)

// readiness is what says that a process is ready.
type readiness struct {
	how  readyHow
	line *regexp.Regexp // with readyByLine
}

type readyHow int

const (
	readyAtOnce   readyHow = iota // it is ready once its program was started
	readyByLine                   // a line of its output matches
	readyByNotify                 // it sends READY=1 to a socket
)

func newReadiness(line string, notify bool) (readiness, error) {
	switch {
	case line != "" && notify:
		return readiness{}, &drm.InputError{Field: "Notify", Value: "true", Want: "one of ReadyLine and Notify"}
	case notify:
		return readiness{how: readyByNotify}, nil
	case line == "":
		return readiness{}, nil
	}
	re, err := regexp.Compile(line)
	if err != nil {
		want := "a regular expression: " + err.Error()
		return readiness{}, &drm.InputError{Field: "ReadyLine", Value: line, Want: want}
	}
	return readiness{readyByLine, re}, nil
}

// awaitReady returns when a process is ready. The error says why that is not to be expected: the process has ended; or
// soft has ended, or the process was not ready in time, or stuck is closed. In all cases but the first, the process may
// still run, and the error matches drm.ErrOutcomeUnknown.
func (e *Exec) awaitReady(soft context.Context, p *process, stuck <-chan struct{}) error {
	if p.isReady() {
		return nil
	}
	var late <-chan time.Time
	if e.cfg.ReadyTimeout != drm.Forever {
		timer := time.NewTimer(e.cfg.ReadyTimeout)
		defer timer.Stop()
		late = timer.C
	}
	var why error
	select {
	case <-p.ready:
		return nil
	case <-p.done:
		if p.isReady() {
			return nil
		}
		return fmt.Errorf("not ready: %w", p.err)
	case <-soft.Done():
		why = context.Cause(soft)
	case <-late:
		why = fmt.Errorf("not ready within %v", e.cfg.ReadyTimeout)
	case <-stuck:
		why = fmt.Errorf("stopped for %v", e.cfg.StoppedTimeout)
	}
	return fmt.Errorf("process %d is not ready: %w", p.pid.Load(), &unready{why})
}

// unready is an error of a process that runs and is not ready.
type unready struct{ err error }

func (u *unready) Error() string   { return u.err.Error() }
func (u *unready) Unwrap() []error { return []error{u.err, drm.ErrOutcomeUnknown} }

// isReady reports whether the process was ready at any time.
func (p *process) isReady() bool {
	select {
	case <-p.ready:
		return true
	default:
		return false
	}
}

// launch says what is to be started, and who is told how it goes.
type launch struct {
	args   []string // the program and its arguments; none: those of ExecConfig.Command
	env    []string // added to what claimEnv says
	ready  readiness
	halt   func(error) // gets an error when the process is stopped (SIGSTOP), and nil once it goes on or has ended
	output *tail       // takes what the process prints; nil: that goes where ExecConfig says
}
