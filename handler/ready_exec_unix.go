//go:build linux || darwin

package handler

import (
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// runApart runs a program in a process group of its own, and kills all of the group when the context of cmd ends. If
// this process dies, Linux kills the program.
func runApart(cmd *exec.Cmd, beside *Exec) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	signalAtParentDeath(cmd.SysProcAttr, syscall.SIGKILL)
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	// The kernel sends that signal when the thread ends that started the program, so the thread must stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own := &ownProcesses{}
	if beside != nil {
		own = &beside.guards.own
	}
	if err := own.start(cmd); err != nil {
		return err
	}
	defer own.forget(cmd)
	return cmd.Wait()
}
