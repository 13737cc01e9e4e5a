package handler_test

import (
	"errors"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// The agent dies, and one of the guard's processes does not end although it is killed. (Here it is traced, so that only
// its tracer gets its exit status; in practice it could wait for a file system.) The guard must kill the descendants of
// its other processes all the same.
func TestAProcessThatDoesNotEndSavesNoOther(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	agent, first := startAgent(t, ch, "1h", "stubborn", "daemon")
	all := map[string]*peer{first.Name: first}
	second := ch.next()
	all[second.Name] = second
	runtime.LockOSThread() // this thread is the tracer
	defer runtime.UnlockOSThread()
	pid := all["child"].PID
	if err := unix.PtraceSeize(pid); err != nil {
		t.Skipf("it cannot be traced: %v", err)
	}
	defer func() { // the guard may have killed it
		for {
			if _, err := unix.Wait4(pid, nil, unix.WALL, nil); !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	await(t, all["child"].gone, "the child to be killed")
	await(t, all["daemon"].gone, "the daemon to be killed")
}
