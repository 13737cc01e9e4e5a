// Package leaselink is how a member tells the supervisor of its process which leases it has, so that the supervisor can
// revoke them once the process has died. docs/run.md describes the protocol.
//
// A member never waits for its supervisor. If the supervisor is gone, or does not read, the member says so once in its
// log, and goes on: its leases expire as they do without a supervisor.
package leaselink

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// mostWaiting is how many lines may wait for the supervisor to read them. A member has few leases, so so many lines
	// mean that nobody reads.
	mostWaiting = 1024
	// patience bounds the attempt to connect, each write, and what is left to write when the link is closed.
	patience = time.Second
)

// Link is a member's connection to its supervisor. Its methods never wait, except Close, and any goroutine may call
// them. A nil Link stands for a member without a supervisor: its methods do nothing.
type Link struct {
	log     *zap.Logger
	lines   chan []byte
	full    chan struct{} // closed when a line found no room in lines
	fill    sync.Once
	closing chan struct{}
	close   sync.Once
	done    chan struct{} // closed when run has ended
}

// Dial connects to the supervisor at an address that Check accepts, in the background. It returns nil if the address
// says that there is no supervisor. The caller calls Close.
func Dial(address string, log *zap.Logger) *Link {
	path, ok, err := parse(address)
	if !ok || err != nil {
		return nil
	}
	l := &Link{
		log: log, lines: make(chan []byte, mostWaiting), full: make(chan struct{}), closing: make(chan struct{}),
		done: make(chan struct{}),
	}
	go l.run(path)
	return l
}

// Holds tells the supervisor that the member has a lease of a cluster of etcd. deaths is the key in which the
// supervisor writes how the process ended; empty: as an earlier call has said, or in none.
func (l *Link) Holds(cluster uint64, lease int64, of Of, deaths string) {
	l.send(Line{Lease: ID(lease), Cluster: ID(int64(cluster)), Of: of, Deaths: deaths})
}

// Dropped tells the supervisor that etcd has no such lease any more.
func (l *Link) Dropped(lease int64) { l.send(Line{Dropped: ID(lease)}) }

func (l *Link) send(line Line) {
	if l == nil {
		return
	}
	text, err := json.Marshal(line)
	if err != nil {
		panic(fmt.Sprintf("leaselink: %v", err)) // a struct of strings can always be encoded
	}
	select {
	case l.lines <- append(text, '\n'):
	default:
		l.fill.Do(func() { close(l.full) })
	}
}

// Close ends the link. It first writes what has not been written yet, and waits at most about 2 s for the supervisor to
// read that.
func (l *Link) Close() {
	if l == nil {
		return
	}
	l.close.Do(func() { close(l.closing) })
	<-l.done
}

// run writes lines until the link is closed or the supervisor is gone.
func (l *Link) run(path string) {
	defer close(l.done)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	cancel()
	if err != nil {
		l.warn("cannot reach the supervisor", err)
		return
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		part := make([]byte, 64)
		for { // what a later version of a supervisor may say is ignored
			if _, err := conn.Read(part); err != nil {
				return
			}
		}
	}()
	l.write(conn, gone)
	_ = conn.Close() // nothing depends on it
	<-gone
}

// write writes lines to conn. It returns when the link is closed, or when there is no use in writing any more.
func (l *Link) write(conn net.Conn, gone <-chan struct{}) {
	for {
		select {
		case line := <-l.lines:
			_ = conn.SetWriteDeadline(time.Now().Add(patience)) // if it fails, so does Write
			if _, err := conn.Write(line); err != nil {
				l.warn("cannot tell the supervisor which leases there are", err)
				return
			}
		case <-l.full:
			l.warn("the supervisor does not read which leases there are", nil)
			return
		case <-gone:
			l.warn("the supervisor is gone", nil)
			return
		case <-l.closing:
			l.flush(conn)
			return
		}
	}
}

// flush writes the lines that still wait.
func (l *Link) flush(conn net.Conn) {
	_ = conn.SetWriteDeadline(time.Now().Add(patience))
	for {
		select {
		case line := <-l.lines:
			if _, err := conn.Write(line); err != nil {
				return // the leases that are gone already do not matter
			}
		default:
			return
		}
	}
}

func (l *Link) warn(message string, err error) {
	reason := zap.Skip()
	if err != nil {
		reason = zap.Error(err)
	}
	l.log.Warn(message+"; if this process dies, its leases expire as without a supervisor", reason)
}
