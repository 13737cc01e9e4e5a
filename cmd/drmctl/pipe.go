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

// SIGPIPE ends a Go process that writes to a stdout or stderr that nobody reads any more, like other tools. That is
// right for a command that only prints (`drmctl members | head -1`), and wrong for the commands that call the functions
// below. They catch the signal instead of ignoring it, since the processes that they start would inherit the latter.

// outliveReaders lets a server go on when the reader of its stdout or stderr has gone: what it prints from then on is
// lost. It holds until the process ends, so that the last line does not change the exit code.
func outliveReaders() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// errReadersGone is the error of a command whose output nobody reads any more. It is not printed.
var errReadersGone = errors.New("nobody reads the output any more")

// endWithReaders ends a command that has processes and folders to clear away when the reader of its stdout or stderr
// has gone. It ends as if it were interrupted, and prints nothing. The signal alone does not tell that: once a process
// catches it, Go also delivers it for each socket that a peer has closed, and such a command serves peers that it
// kills.
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

// watchReaders wraps a writer to a file, and calls gone when nobody reads the file any more.
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

// Fd is the descriptor of the file, which may be a terminal.
func (f *watchedFile) Fd() uintptr { return f.file.Fd() }
