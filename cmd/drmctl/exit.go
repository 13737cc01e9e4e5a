package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
	"github.com/distributed-resource-manager/drm/internal/reach"
)

// The exit codes: a contract, documented in --help.
const (
	exitFine        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitUnreachable = 4
	exitQuota       = 5
)

// usageError is a mistake of the user who typed the command.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usagef makes a usageError.
func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// badFlag is the usageError about a flag whose value is not allowed. want completes "want …".
func badFlag(name, value, want string) error {
	return &usageError{&drm.InputError{Field: "--" + name, Value: value, Want: want}}
}

// exitCode is the exit code of an error.
func exitCode(err error) int {
	var usage *usageError
	var end *endError
	switch {
	case err == nil:
		return exitFine
	case errors.As(err, &end):
		return end.code
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, drm.ErrNotFound):
		return exitNotFound
	case errors.Is(err, drm.ErrQuota):
		return exitQuota
	case errors.Is(err, drm.ErrUnreachable) && !reach.IsSlow(err): // an etcd that is slow has been reached
		return exitUnreachable
	default:
		return exitFailed
	}
}

// endsQuietly reports whether an error only carries the exit code of a command that was run.
func endsQuietly(err error) bool {
	var end *endError
	return errors.As(err, &end) && end.err == nil
}

// report prints an error as one line, unless it is nil, and returns its exit code. ctx is the context of the command.
func report(ctx context.Context, w io.Writer, err error) int {
	if err != nil && !errors.Is(err, errReadersGone) && !endsQuietly(err) {
		text := output.Line(err.Error())
		if hint := hintOf(err); hint != "" {
			text += "; " + hint
		}
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			// That the context was canceled is how the program knows, and says nothing to a user.
			text = "interrupted: " + strings.ReplaceAll(text, ": "+context.Canceled.Error(), "")
		}
		say(w, "drmctl: %s\n", text)
	}
	return exitCode(err)
}

// lastWords is how long a process that is about to end waits for stderr to accept its last line.
const lastWords = time.Second

// say prints without waiting for long: w may be a pipe that nobody reads, and the process must end all the same.
func say(w io.Writer, format string, args ...any) {
	said := make(chan struct{})
	go func() {
		defer close(said)
		fmt.Fprintf(w, format, args...)
	}()
	timer := time.NewTimer(lastWords)
	defer timer.Stop()
	select {
	case <-said:
	case <-timer.C:
	}
}
