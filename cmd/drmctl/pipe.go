package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
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
// when whoever read its stdout or stderr has gone.
func endWithReaders(action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		ctx, cancel := context.WithCancelCause(c.Context)
		broken, done := make(chan os.Signal, 1), make(chan struct{})
		signal.Notify(broken, syscall.SIGPIPE)
		var watch sync.WaitGroup
		watch.Go(func() {
			select {
			case <-broken:
				cancel(errReadersGone)
			case <-done:
			}
		})
		c.Context = ctx
		err := action(c)
		close(done)
		watch.Wait()
		signal.Stop(broken)
		gone := errors.Is(context.Cause(ctx), errReadersGone)
		cancel(nil)
		if gone {
			return errReadersGone
		}
		return err
	}
}
