package httpapi

import (
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	readTimeout  = 10 * time.Second // for a whole request
	headTimeout  = 5 * time.Second  // for the headers of a request
	writeTimeout = time.Minute      // for an answer: a list of 100,000 resources has time to reach a slow client
	idleTimeout  = time.Minute      // for the next request of a connection
	mostHeader   = 16 << 10         // bytes of all headers together
	mostConns    = 64               // connections at once
)

// NewServer makes a server for a Handler that limits what clients can do to it: 5 s for the headers of a request, 10 s
// for all of it, 1 min for an answer and for an idle connection, 16 KiB for headers, and 64 connections at once. For a
// further connection, the one that has been idle for longest is closed; if none is idle, the new one is. The caller
// calls Serve, and Close when the member has ended; it may set ErrorLog before.
func NewServer(h http.Handler) *http.Server {
	c := &crowd{most: mostConns, conns: map[net.Conn]time.Time{}}
	return &http.Server{
		Handler: h, ReadTimeout: readTimeout, ReadHeaderTimeout: headTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: mostHeader, ConnState: c.changed,
	}
}

// crowd limits how many connections a server has. A probe must get through although others keep their connections.
type crowd struct {
	most int

	mu    sync.Mutex
	conns map[net.Conn]time.Time // since when each is idle; zero: it has a request, or is about to send its first one
}

// changed is a server's ConnState.
func (c *crowd) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		if len(c.conns) >= c.most && !c.makeRoom() {
			_ = conn.Close() // the server notices when it reads
			return
		}
		c.conns[conn] = time.Time{}
	case http.StateActive:
		if _, in := c.conns[conn]; in {
			c.conns[conn] = time.Time{}
		}
	case http.StateIdle:
		if _, in := c.conns[conn]; in {
			c.conns[conn] = time.Now()
		}
	case http.StateHijacked, http.StateClosed:
		delete(c.conns, conn)
	}
}

// makeRoom closes the connection that has been idle for longest. It returns false if none is idle. The caller holds
// c.mu.
func (c *crowd) makeRoom() bool {
	var longest net.Conn
	var since time.Time
	for conn, idle := range c.conns {
		if !idle.IsZero() && (longest == nil || idle.Before(since)) {
			longest, since = conn, idle
		}
	}
	if longest == nil {
		return false
	}
	_ = longest.Close() // the server notices when it reads
	delete(c.conns, longest)
	return true
}
