package handler

import "os/exec"

// ownProcesses does nothing on macOS, where only launchd adopts processes.
type ownProcesses struct{ reap bool }

func (*ownProcesses) start(cmd *exec.Cmd) error { return cmd.Start() }

func (*ownProcesses) forget(*exec.Cmd) {}

func (*ownProcesses) close() {}
