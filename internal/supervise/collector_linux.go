package supervise

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/distributed-resource-manager/drm/internal/leaselink"
)

// home is where the supervisor's sockets are.
type home struct {
	dir string // empty: there is no folder for them, so they have names that are no files
}

// longestFolder is how long the name of home's folder may be, so that the paths of its sockets are not too long.
const longestFolder = 90

// newHome makes a folder that only this user can use. Where the file system is read-only, there is none.
func newHome() *home {
	for _, parent := range []string{os.Getenv("XDG_RUNTIME_DIR"), os.TempDir(), "/tmp", "/dev/shm"} {
		if parent == "" || !filepath.IsAbs(parent) || len(parent) > longestFolder-20 {
			continue
		}
		if dir, err := os.MkdirTemp(parent, "drm-run-"); err == nil { // its mode is 0700
			return &home{dir}
		}
	}
	return &home{}
}

// remove removes the folder.
func (h *home) remove() {
	if h.dir != "" {
		_ = os.RemoveAll(h.dir) // an empty folder that stays does no harm
	}
}

// listen waits for the members of the nth life of the command.
func (h *home) listen(n int, log *zap.Logger) (*collector, error) {
	path := filepath.Join(h.dir, strconv.Itoa(n))
	if h.dir == "" {
		path = fmt.Sprintf("@drm-run-%d-%d-%d", os.Getpid(), n, time.Now().UnixNano())
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		return nil, fmt.Errorf("listen for members: %w", err)
	}
	c := &collector{
		path: path, listener: listener, log: log,
		marked: make(chan struct{}), links: map[*link]struct{}{}, left: leases{},
	}
	c.accepting.Go(c.accept)
	return c, nil
}

// The bounds of what members may hand over.
const (
	mostLinks  = 256  // connections at once
	mostLeases = 4096 // leases of one connection
)

// linkPatience is how long the connections of a command that is gone may take to end.
const linkPatience = 2 * time.Second

// collector takes down which leases the members of one life of the command have.
type collector struct {
	path      string
	listener  *net.UnixListener
	log       *zap.Logger
	accepting sync.WaitGroup
	marked    chan struct{} // closed when accept has taken all connections that were made before finish
	mark      sync.Once
	reading   sync.WaitGroup

	mu    sync.Mutex
	links map[*link]struct{} // the connections that are open
	left  leases             // what members had whose connections have ended
}

// link is a connection with a member.
type link struct {
	conn   *net.UnixConn
	leases leases // collector.mu guards it, and deaths
	deaths string // the key in which it is to be written how the process ended; empty: in none
}

// leases are leases by their ids.
type leases map[int64]leaselink.Lease

// add adds a lease. A member has no more than a few hundred leases, so where there are too many, the others have
// expired long ago, and the member could not find out.
func (ls leases) add(held leaselink.Lease) {
	if len(ls) >= mostLeases {
		for id, lease := range ls {
			if lease.Of != leaselink.Member {
				delete(ls, id)
				break
			}
		}
	}
	ls[held.ID] = held
}

// accept takes connections until the listener is closed.
func (c *collector) accept() {
	for {
		conn, err := c.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // too many open files, say
			c.log.Warn("cannot accept a connection of a member", zap.Error(err))
			wait := time.NewTimer(100 * time.Millisecond)
			<-wait.C
			continue
		}
		peer, err := peerOf(conn)
		switch {
		case err == nil && peer == os.Getpid():
			c.mark.Do(func() { close(c.marked) })
		case err != nil || !below(peer):
			c.log.Warn("a process that is not below the supervisor wants to hand over leases; refused",
				zap.Int("pid", peer), zap.Error(err))
		case c.take(conn):
			continue
		default:
			c.log.Warn("too many members hand over leases; refused one", zap.Int("pid", peer))
		}
		_ = conn.Close()
	}
}

// take reads from a connection in the background. It returns false if there are too many connections.
func (c *collector) take(conn *net.UnixConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.links) >= mostLinks {
		return false
	}
	l := &link{conn: conn, leases: leases{}}
	c.links[l] = struct{}{}
	c.reading.Go(func() { c.read(l) })
	return true
}

// read takes lines until the other end is closed.
func (c *collector) read(l *link) {
	defer l.conn.Close() //nolint:errcheck // nothing was written
	in := bufio.NewScanner(l.conn)
	in.Buffer(make([]byte, 0, 512), leaselink.MostLine)
	for in.Scan() {
		held, dropped, err := leaselink.Parse(in.Bytes())
		if err != nil {
			c.log.Warn("cannot read what a member says of its leases; it is ignored", zap.Error(err))
			continue
		}
		c.note(l, held, dropped)
	}
	err := in.Err()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		c.log.Warn("cannot read which leases a member has; they expire by themselves", zap.Error(err))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.links, l)
	if err == nil { // all processes that had the other end have closed it
		for _, lease := range l.leases {
			lease.Deaths = l.deaths
			c.left.add(lease)
		}
	}
}

// note takes a line down.
func (c *collector) note(l *link, held leaselink.Lease, dropped int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(l.leases, dropped)
	if held.ID != 0 {
		l.leases.add(held)
	}
	if held.Deaths != "" {
		l.deaths = held.Deaths
	}
}

// finish returns the leases that the members had when they died. It is called when all that the command has started is
// gone, so all connections have ended. The leases of one that has not are left out: some other process holds it.
func (c *collector) finish() []leaselink.Lease {
	ctx, cancel := context.WithTimeout(context.Background(), linkPatience)
	defer cancel()
	if conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.path); err == nil {
		select { // connections are accepted in the order in which they were made
		case <-c.marked:
		case <-ctx.Done():
		}
		_ = conn.Close()
	}
	read := make(chan struct{})
	c.closeListener()
	go func() {
		defer close(read)
		c.reading.Wait()
	}()
	select {
	case <-read:
	case <-ctx.Done():
	}
	c.mu.Lock()
	open := len(c.links)
	for l := range c.links {
		_ = l.conn.Close() // ends its reader
	}
	c.mu.Unlock()
	<-read
	if open > 0 {
		c.log.Warn("connections of members are still open, though the command is gone; their leases are not revoked",
			zap.Int("connections", open))
	}
	return slices.Collect(maps.Values(c.left)) // nobody else uses it any more
}

// closeListener ends accept.
func (c *collector) closeListener() {
	_ = c.listener.Close() // removes the socket
	c.accepting.Wait()
}

// close ends the collector of a life that did not begin.
func (c *collector) close() { c.finish() }

// peerOf returns the process that has made a connection.
func peerOf(conn *net.UnixConn) (pid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("find the other end of a connection: %w", err)
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil {
		err = cerr
	}
	if err != nil {
		return 0, fmt.Errorf("find the other end of a connection: %w", err)
	}
	if cred.Pid == 0 {
		return 0, errors.New("the other end of a connection is in another namespace of processes")
	}
	return int(cred.Pid), nil
}
