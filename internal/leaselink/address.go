package leaselink

import (
	"errors"
	"strings"
)

const (
	// Env names the environment variable in which a supervisor gives its address to the process that it starts.
	Env = "DRM_SUPERVISOR"
	// None is the address that stands for no supervisor.
	None = "none"
)

// scheme begins each address of a supervisor.
const scheme = "unix:"

// mostPath is how long the path of a socket may be on every system.
const mostPath = 103

// errAddress completes "want …".
var errAddress = errors.New("unix:PATH, with an absolute path of at most 103 bytes, unix:@NAME, or none")

// Check returns an error that completes "want …" unless address is one that Dial takes.
func Check(address string) error {
	_, _, err := parse(address)
	return err
}

// parse returns the path of the socket. ok is false if the address says that there is no supervisor.
func parse(address string) (path string, ok bool, err error) {
	if address == "" || address == None {
		return "", false, nil
	}
	path, unix := strings.CutPrefix(address, scheme)
	if !unix || len(path) < 2 || len(path) > mostPath || path[0] != '/' && path[0] != '@' {
		return "", false, errAddress
	}
	return path, true, nil
}

// Address returns the address of a supervisor that listens on a socket.
func Address(path string) string { return scheme + path }
