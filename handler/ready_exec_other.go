//go:build !linux && !darwin

package handler

import "os/exec"

// runApart runs a program. Here it has no process group: only the program itself is killed.
func runApart(cmd *exec.Cmd, _ *Exec) error { return cmd.Run() }
