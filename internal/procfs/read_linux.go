package procfs

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Read reads a file of /proc. os.ReadFile would first try to poll the file as if it were a pipe, which is twice the
// work.
func Read(path string) (text []byte, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	part := make([]byte, 8192)
	for {
		n, err := unix.Read(fd, part)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return text, err
		}
		text = append(text, part[:n]...)
	}
}
