//go:build !unix

package main

import "os"

// userSignals are further signals that run passes on, which only Unix has.
var userSignals []os.Signal
