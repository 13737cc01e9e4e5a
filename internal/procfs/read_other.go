//go:build !linux

package procfs

import "os"

// Read reads a file of /proc.
func Read(path string) (text []byte, err error) { return os.ReadFile(path) }
