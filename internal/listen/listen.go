// Package listen decides at which addresses a program may listen that has neither TLS nor users: on this machine only.
// A TCP address must be a loopback one; a unix socket belongs to the user who runs the program.
package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrNotLoopback says that an address can be reached from other machines.
var ErrNotLoopback = errors.New("a loopback address (127.0.0.1, ::1 or localhost): whoever can reach another one " +
	"could do everything, since there is neither TLS nor a token yet")

// ErrForm says that a text is no address.
var ErrForm = errors.New("HOST:PORT, :PORT (at 127.0.0.1) or unix:/PATH")

// ErrInUse says that another process listens at a unix socket.
var ErrInUse = errors.New("another process listens there")

const (
	// maxPath is how many bytes a path of a unix socket may have: on macOS its field has 104, with a zero at the end.
	// Linux takes four more.
	maxPath = 103
	// maxFolder is how many bytes the path of its folder may have: the socket is made in a folder below it.
	maxFolder = maxPath - len("/.s4294967295/s")
)

// Address is where to listen.
type Address struct {
	network string // tcp or unix
	address string
}

// Parse reads an address: HOST:PORT with a loopback host, :PORT for 127.0.0.1, or unix:/PATH. The error is ErrForm,
// ErrNotLoopback, or one that says what is wrong with the path.
func Parse(text string) (Address, error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		if path = filepath.Clean(path); !filepath.IsAbs(path) {
			return Address{}, errors.New("an absolute path: unix:/PATH")
		}
		if len(path) > maxPath || len(filepath.Dir(path)) > maxFolder || strings.ContainsRune(path, 0) {
			return Address{}, fmt.Errorf("a path of at most %d bytes, %d of them for the folder, without a NUL",
				maxPath, maxFolder)
		}
		return Address{"unix", path}, nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return Address{}, ErrForm
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return Address{}, ErrForm
	}
	switch ip, err := netip.ParseAddr(host); {
	case host == "", strings.EqualFold(host, "localhost"): // a resolver might say of the name whatever it likes
		host = "127.0.0.1"
	case err != nil || !ip.IsLoopback():
		return Address{}, ErrNotLoopback
	}
	return Address{"tcp", net.JoinHostPort(host, port)}, nil
}

// Listen begins to listen. A unix socket has the mode 0600, and replaces one that a process has left behind; its file
// is removed when the listener is closed. The error matches ErrInUse if another process listens at the unix socket.
func (a Address) Listen(ctx context.Context) (net.Listener, error) {
	if a.network == "unix" {
		return listenUnix(ctx, a.address)
	}
	var c net.ListenConfig
	return c.Listen(ctx, a.network, a.address)
}

// URL says where a listener listens: http://127.0.0.1:4711, or unix:/path.
func URL(l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return "unix:" + l.Addr().String()
	}
	return "http://" + l.Addr().String()
}
