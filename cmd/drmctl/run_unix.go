//go:build unix

package main

import (
	"os"
	"syscall"
)

// userSignals are further signals that run passes on, which only Unix has.
var userSignals = []os.Signal{syscall.SIGUSR1, syscall.SIGUSR2}
