//go:build !linux

package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
)

// Run works on Linux only: no other system lets a process find out that everything below another one is gone. The error
// matches errors.ErrUnsupported.
func Run(context.Context, Config) (code int, err error) {
	return 0, fmt.Errorf("supervise a command on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

// Signals is for Run, so it has no signals here.
func Signals(...os.Signal) (got <-chan Signal, stop func()) { return nil, func() {} }

// WatchKeys is for Signals. It never returns.
func WatchKeys() { select {} }
