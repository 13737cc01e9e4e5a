package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/reach"
)

// The exit codes: a contract, documented in --help.
const (
	exitFine        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitUnreachable = 4
)

// usageError is one of the person who typed the command.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usagef makes a usageError.
func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// badFlag is the usageError of a flag with a value that it cannot have. want completes "want …".
func badFlag(name, value, want string) error {
	return &usageError{&drm.InputError{Field: "--" + name, Value: value, Want: want}}
}

// exitCode says what an error means to a script.
func exitCode(err error) int {
	var usage *usageError
	switch {
	case err == nil:
		return exitFine
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, drm.ErrNotFound):
		return exitNotFound
	case errors.Is(err, drm.ErrUnreachable) && !reach.IsSlow(err): // one that is slow has been reached
		return exitUnreachable
	default:
		return exitFailed
	}
}

// report prints an error, if there is one, as one line, and returns its exit code. ctx is what the command ran under.
func report(ctx context.Context, w io.Writer, err error) int {
	if err != nil && !errors.Is(err, errReadersGone) {
		text := oneLine(err.Error())
		if hint := hintOf(err); hint != "" {
			text += "; " + hint
		}
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			text = "interrupted: " + text
		}
		say(w, "drmctl: %s\n", text)
	}
	return exitCode(err)
}

// lastWords is how long a process that is about to end waits for its stderr to take what it has to say.
const lastWords = time.Second

// say prints, and does not wait for long: w may be a pipe that nobody reads, and the process is to end all the same.
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

// oneLine folds a text of many lines, such as that of errors.Join, into one.
func oneLine(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}
