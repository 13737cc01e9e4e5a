package supervise

import (
	"context"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/leaselink"
)

// Config is what Run needs to know.
type Config struct {
	Command []string // the program, which is looked up in PATH, and its arguments
	Env     []string // of the command, as os.Environ; Run adds the address of the supervisor

	Stdin, Stdout, Stderr *os.File // of the command; nil: the null device

	// Restart starts the command again when it has ended, unless its exit code is 0 or a signal has asked it to end.
	Restart bool
	// Backoff is the first pause before the command is started again. It doubles each time up to BackoffMax, and is
	// moved by up to a fifth at random. Once the command has run for BackoffMax, the next pause is Backoff again.
	Backoff, BackoffMax time.Duration

	// Signals are passed on to the command. SIGTERM, SIGINT and SIGQUIT also mean that it is not started again.
	Signals <-chan Signal
	// Revoke revokes the leases of a command that is surely gone with all of its children, and writes down how it
	// ended. Run waits for it, so it must return soon.
	Revoke func(ctx context.Context, end End)
	// Cgroup puts the command into a cgroup of its own where that needs no further rights, so that all that it has
	// started can be killed at one stroke.
	Cgroup bool
	// EndPatience is how long what a dead command has left may take to end. After that, its leases are not revoked.
	EndPatience time.Duration

	Log *zap.Logger
}

// End is how one life of the command ended.
type End struct {
	Exit   string            // such as: exit status 2; signal: killed
	At     time.Time         // when the supervisor noticed
	Leases []leaselink.Lease // those that its members had, and had not given back
}

// StartError says that the command could not be started.
type StartError struct {
	Command string
	Err     error
}

func (e *StartError) Error() string { return fmt.Sprintf("start %s: %v", e.Command, e.Err) }

// Unwrap returns the reason.
func (e *StartError) Unwrap() error { return e.Err }
