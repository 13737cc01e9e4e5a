//go:build !linux && !darwin

package handler

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/distributed-resource-manager/drm"
)

const execSupported = false

// RunGuard would be the work of a guard process of an Exec. This system has none, so it writes an error and returns 2.
func RunGuard([]string) int {
	fmt.Fprintln(os.Stderr, "the exec handler does not work on", runtime.GOOS)
	return 2
}

// process is never made on this system, because NewExec fails.
type process struct {
	done     chan struct{}
	ready    chan struct{}
	err      error
	ok       bool
	byItself bool
	pid      atomic.Int64
}

func startProcess(context.Context, *guards, drm.Claim, launch) (*process, error) {
	return nil, errors.ErrUnsupported
}

func (*process) terminate(time.Duration) {}
func (*process) kill()                   {}
func (*process) giveUp()                 {}

type guards struct{}

type outlet struct{}

func newGuards([]string, ExecConfig, bool, func() error) *guards { return nil }

func (*guards) close(context.Context) {}

func ownGuard() ([]string, func() error, error) { return nil, nil, errors.ErrUnsupported }
