package handler

import (
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// clockNow is a time in milliseconds that is the same in every process of a machine, goes on while it sleeps, and
// cannot be set: on macOS that is CLOCK_MONOTONIC_RAW.
func clockNow() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &t); err != nil {
		panic(fmt.Sprintf("clock_gettime(CLOCK_MONOTONIC_RAW): %v", err)) // every macOS since 10.12 has it
	}
	return t.Nano() / int64(time.Millisecond)
}

// alarm sends on C five times a second: there is no timer that counts sleep.
type alarm struct{ C <-chan time.Time }

func newAlarm() (*alarm, error) { return &alarm{C: time.NewTicker(200 * time.Millisecond).C}, nil }

func (*alarm) set(int64) {}

// What follows is what macOS does not have: a signal when the parent dies (the end of the orders tells), a way to wait
// without reaping, and the adoption of orphans (what leaves the group escapes).

func signalAtParentDeath(*syscall.SysProcAttr, syscall.Signal) {}

func awaitExit(cmd *exec.Cmd) { _ = cmd.Wait() }

func adoptOrphans() {}

func reapOrphans(int) {}

func killOrphans() {}
