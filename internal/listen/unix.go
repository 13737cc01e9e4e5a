package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// knockTimeout is how long a process has to accept a connection before it counts as one that lives.
const knockTimeout = time.Second

// listenUnix makes a unix socket. It makes the socket in a folder that only this user can enter, and moves it to its
// place when it has its mode: so nobody else can ever connect, and whoever connects to a socket that is being replaced
// reaches either the old one or the new one.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	if err := mayReplace(ctx, path); err != nil {
		return nil, fmt.Errorf("listen at unix:%s: %w", path, err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, fmt.Errorf("listen at unix:%s: %w", path, err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // it is empty by then, or the socket of no use
	l, err := socketAt(ctx, dir, path)
	if err != nil {
		return nil, fmt.Errorf("listen at unix:%s: %w", path, err)
	}
	return l, nil
}

// socketAt makes a socket in dir, and moves it to path.
func socketAt(ctx context.Context, dir, path string) (net.Listener, error) {
	var c net.ListenConfig
	made := filepath.Join(dir, "s")
	l, err := c.Listen(ctx, "unix", made)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // it would remove the file that it was made as
	file, err := place(made, path)
	if err != nil {
		_ = l.Close() // nobody has connected
		return nil, err
	}
	return &unixListener{Listener: l, path: path, file: file}, nil
}

// place gives a socket its mode and its place.
func place(made, path string) (fs.FileInfo, error) {
	if err := os.Chmod(made, 0o600); err != nil {
		return nil, err
	}
	file, err := os.Lstat(made)
	if err != nil {
		return nil, err
	}
	return file, os.Rename(made, path)
}

// mayReplace returns nil if there is nothing at path, or a socket that nobody listens at.
func mayReplace(ctx context.Context, path string) error {
	file, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case file.Mode().Type() != fs.ModeSocket:
		return errors.New("there is a file that is not a socket")
	}
	ctx, cancel := context.WithTimeout(ctx, knockTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close() // it was only to find out whether somebody is there
		return ErrInUse
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil // the process that made it is gone
	default:
		return fmt.Errorf("find out whether another process listens there: %w", err)
	}
}

// unixListener removes the socket's file when it is closed, unless another one has taken its place.
type unixListener struct {
	net.Listener
	path string
	file fs.FileInfo
	once sync.Once
}

// Addr implements net.Listener: the socket was made under another name.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close implements net.Listener.
func (l *unixListener) Close() error {
	l.once.Do(func() {
		if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.file) {
			_ = os.Remove(l.path) // a file that stays is replaced by the next one
		}
	})
	return l.Listener.Close()
}
