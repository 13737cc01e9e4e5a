package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"
)

// Go ends a process with SIGPIPE that writes to a stdout or stderr which nobody reads any more, as other tools end. That is right
// for a command that only prints (`drmctl members | head -1`), and not for those below. The signal is caught and not ignored,
// since processes that are started would inherit that.

// outliveReaders lets a server go on when whoever read its stdout or stderr has gone: what it prints from then on is lost. It
// holds until the process ends, whose last words must not cost it its exit code.
func outliveReaders() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// errReadersGone is the end of a command whose output nobody reads any more. Nobody is told.
var errReadersGone = errors.New("nobody reads the output any more")

// endWithReaders makes a command that has processes and folders to clear away end as if it were interrupted, and without a word,
// when whoever read its stdout or stderr has gone. The signal itself tells nothing of that: once it is caught, Go delivers it for
// each socket that a peer has closed, too, and such a command serves peers that it kills.
func endWithReaders(action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		ctx, cancel := context.WithCancelCause(c.Context)
		defer cancel(nil)
		caught := make(chan os.Signal, 1)
		signal.Notify(caught, syscall.SIGPIPE)
		defer signal.Stop(caught)
		gone := func() { cancel(errReadersGone) }
		c.App.Writer, c.App.ErrWriter = watchReaders(c.App.Writer, gone), watchReaders(c.App.ErrWriter, gone)
		c.Context = ctx
		err := action(c)
		if errors.Is(context.Cause(ctx), errReadersGone) {
			return errReadersGone
		}
		return err
	}
}

// watchReaders has gone called when nobody reads a file any more that something is written to.
func watchReaders(w io.Writer, gone func()) io.Writer {
	if f, is := w.(*os.File); is {
		return &watchedFile{f, gone}
	}
	return w
}

// watchedFile is an output whose readers may go.
type watchedFile struct {
	file *os.File
	gone func() // may be called by several goroutines at once
}

func (f *watchedFile) Write(p []byte) (int, error) {
	n, err := f.file.Write(p)
	if errors.Is(err, syscall.EPIPE) {
		f.gone()
	}
	return n, err
}

// Fd is for the terminal that the file may be.
func (f *watchedFile) Fd() uintptr { return f.file.Fd() }
