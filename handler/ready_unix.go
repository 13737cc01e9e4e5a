//go:build linux || darwin

package handler

import (
	"bytes"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// lineWatch looks for a line that matches in the output of a process. Only one goroutine may use it.
type lineWatch struct {
	re      *regexp.Regexp
	found   func()
	partial []byte // the beginning of a line that has no end yet, at most lineMost bytes
	over    bool
}

func (w *lineWatch) take(text []byte) {
	for !w.over && len(text) > 0 {
		line, rest, whole := bytes.Cut(text, []byte{'\n'})
		w.partial = append(w.partial, line[:min(len(line), lineMost-len(w.partial))]...)
		if whole {
			if w.re.Match(bytes.TrimSuffix(w.partial, []byte{'\r'})) {
				w.over = true
				w.partial = nil
				w.found()
				return
			}
			w.partial = w.partial[:0]
		}
		text = rest
	}
}

// saysReady reports whether a message of sd_notify says that a process is ready.
func saysReady(message []byte) bool {
	for line := range bytes.Lines(message) {
		if string(bytes.TrimSuffix(line, []byte{'\n'})) == "READY=1" {
			return true
		}
	}
	return false
}

// notifySockets are the sockets to which the processes of an Exec say that they are ready.
type notifySockets struct {
	names   socketNames
	reading sync.WaitGroup
}

// notifySocket is the socket of one process.
type notifySocket struct {
	conn *net.UnixConn
	env  string // NOTIFY_SOCKET=…
	drop func() // removes what names the socket
}

// open makes a socket, and calls ready once when a message says that the process is ready. Nobody else is told the
// socket's name.
func (n *notifySockets) open(ready func()) (*notifySocket, error) {
	name, drop, err := n.names.next()
	if err != nil {
		return nil, fmt.Errorf("make a notify socket: %w", err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		drop()
		return nil, fmt.Errorf("make a notify socket: %w", err)
	}
	n.reading.Go(func() {
		message := make([]byte, 4096) // longer ones are cut
		for {
			// Files that come with a message are closed by the kernel, which is what sd_notify_barrier waits for.
			got, err := conn.Read(message)
			if err != nil {
				return
			}
			if saysReady(message[:got]) {
				ready()
			}
		}
	})
	return &notifySocket{conn, "NOTIFY_SOCKET=" + name, drop}, nil
}

// close must be called when the process has ended or was not started.
func (s *notifySocket) close() {
	if s == nil {
		return
	}
	_ = s.conn.Close()
	s.drop()
}

// close must be called after all sockets are closed.
func (n *notifySockets) close() {
	n.reading.Wait()
	n.names.remove()
}

// withoutNotify returns an environment without what systemd tells a service about its own notifications, which the
// agent's processes would otherwise take for theirs.
func withoutNotify(env []string) []string {
	return slices.DeleteFunc(env, func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return name == "NOTIFY_SOCKET" || name == "WATCHDOG_PID" || name == "WATCHDOG_USEC"
	})
}
