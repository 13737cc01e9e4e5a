package handler

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/excerpt"
)

// ReadyExec runs a program that tells by its exit code whether a member can work. Its Ready is for drm.Config.Ready.
type ReadyExec struct {
	command []string
	beside  *Exec
}

// NewReadyExec makes a ReadyExec; command is the program and its arguments (see ParseCommand). Where the same process
// runs an Exec, beside must be that one, so that it does not take the program's exit status for that of an orphan (see
// ExecConfig.ReapOrphans); otherwise it is nil. The error is a *drm.InputError.
func NewReadyExec(command []string, beside *Exec) (*ReadyExec, error) {
	if len(command) == 0 || command[0] == "" {
		return nil, &drm.InputError{
			Field: "command", Value: strings.Join(command, " "), Want: "a program and its arguments",
		}
	}
	for _, word := range command {
		if strings.ContainsRune(word, 0) {
			return nil, &drm.InputError{Field: "command", Value: "text with a NUL byte", Want: "arguments without one"}
		}
	}
	return &ReadyExec{command, beside}, nil
}

// outputWait is how long a process that has left the program's group may keep its output open.
const outputWait = 500 * time.Millisecond

// Ready runs the program, and returns nil if its exit code is 0. Otherwise the error has the last line of what the
// program printed. When ctx ends, the program is killed; on Linux and macOS together with its process group. Its
// standard input is empty. Its environment is that of this process, without the variables that configure DRM (DRM_…).
func (r *ReadyExec) Ready(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, r.command[0], r.command[1:]...)
	said := &tail{ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr, cmd.Env = said, said, execEnv(os.Environ(), nil, "")
	cmd.WaitDelay = outputWait
	err := runApart(cmd, r.beside)
	said.end() // nothing writes any more
	if ctx.Err() != nil {
		err = fmt.Errorf("%w, and was killed", context.Cause(ctx))
	} else if errors.Is(err, exec.ErrWaitDelay) { // its exit code was 0, and something that it began lives on
		err = nil
	}
	if err == nil {
		return nil
	}
	if line := excerpt.Clip(said.last(), excerptBytes); line != "" {
		err = fmt.Errorf("%w: %s", err, line)
	}
	return fmt.Errorf("%s: %w", r.command[0], err)
}
