package handler

import (
	"os"
	"os/exec"
)

// ownGuard is how this very program is started as a guard.
func ownGuard() ([]string, error) {
	path, err := os.Executable()
	return []string{path, GuardArg}, err
}

// ownProcesses has nothing to do here: launchd alone adopts processes.
type ownProcesses struct{ reap bool }

func (*ownProcesses) start(cmd *exec.Cmd) error { return cmd.Start() }

func (*ownProcesses) forget(*exec.Cmd) {}

func (*ownProcesses) close() {}
