//go:build !linux

package supervise

import (
	"context"
	"errors"
	"fmt"
	"runtime"
)

// Run works on Linux only: no other system lets a process find out that everything below another one is gone. The error
// matches errors.ErrUnsupported.
func Run(context.Context, Config) (code int, err error) {
	return 0, fmt.Errorf("supervise a command on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
