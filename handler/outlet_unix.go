//go:build linux || darwin

package handler

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/distributed-resource-manager/drm"
)

// afterwards is how long the agent goes on reading the output of a process that has ended. A descendant that left the
// group may hold the pipe open for ever.
const afterwards = time.Second

// outlets are the pipes that the processes of an Exec print to when each line gets a prefix. The agent reads them
// itself, so that no guard has to, and sends their other ends to the guard over a socket.
type outlets struct {
	// mergers has one merger for both stdout and stderr, or one for each. It is empty if the processes print where
	// their guard does.
	mergers []*merger
	reading sync.WaitGroup
	chunks  sync.Pool // of *chunk, for the pipes that have something to read now
}

// chunk is the memory for one read and for the lines made from it.
type chunk struct {
	in  [32 << 10]byte
	out []byte
}

func newOutlets(cfg ExecConfig, same bool) *outlets {
	o := &outlets{chunks: sync.Pool{New: func() any { return new(chunk) }}}
	if cfg.Output == OutputPrefix {
		o.mergers = []*merger{{to: cfg.Stdout}}
		if !same {
			o.mergers = append(o.mergers, &merger{to: cfg.Stderr})
		}
	}
	return o
}

// outlet has the pipes that one process prints to. It is nil if the process prints where its guard does.
type outlet struct {
	from []*os.File // the ends that the agent reads

	mu   sync.Mutex
	give []*os.File // the ends that the process writes to, until the guard has them
}

// open makes the pipes of a process, and begins to read them.
func (o *outlets) open(c drm.Claim) (*outlet, error) {
	if len(o.mergers) == 0 {
		return nil, nil //nolint:nilnil // a nil outlet is valid
	}
	t := &outlet{}
	for range o.mergers {
		from, give, err := os.Pipe()
		if err != nil {
			for _, file := range append(t.from, t.give...) {
				_ = file.Close()
			}
			return nil, fmt.Errorf("pipe: %w", err)
		}
		t.from, t.give = append(t.from, from), append(t.give, give)
	}
	for i, m := range o.mergers {
		l := &lines{prefix: linePrefix(c.Resource.ID), to: m}
		o.reading.Go(func() { o.read(t.from[i], l) })
	}
	return t, nil
}

// read reads a pipe until its last writer has closed it, or until the deadline that outlet.end sets.
func (o *outlets) read(from *os.File, l *lines) {
	defer from.Close()
	defer l.end()
	raw, err := from.SyscallConn()
	if err != nil {
		return
	}
	for {
		var got *chunk // only for the time of a read, so that a process that prints nothing needs no chunk
		var n int
		waited := raw.Read(func(fd uintptr) (ready bool) {
			got = o.chunks.Get().(*chunk)
			err = unix.EINTR
			for errors.Is(err, unix.EINTR) {
				n, err = unix.Read(int(fd), got.in[:])
			}
			if errors.Is(err, unix.EAGAIN) {
				o.chunks.Put(got)
				got = nil
				return false
			}
			return true
		})
		if waited != nil || err != nil || n <= 0 {
			return
		}
		got.out = l.take(got.in[:n], got.out)
		o.chunks.Put(got)
	}
}

// pass sends the ends to write to over the guard's socket, and returns how many it has sent.
func (t *outlet) pass(over *os.File) (int, error) {
	if t == nil {
		return 0, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.drop()
	fds := make([]int, 0, len(t.give))
	for _, file := range t.give {
		fd := int(file.Fd())
		if err := unix.SetNonblock(fd, false); err != nil { // programs expect that their writes block
			return 0, os.NewSyscallError("fcntl", err)
		}
		fds = append(fds, fd)
	}
	raw, err := over.SyscallConn()
	if err != nil || len(fds) == 0 { // the guard has ended
		return 0, err
	}
	// One byte goes with the files of each process, so that the guard receives the files of one process at a time.
	waited := raw.Write(func(fd uintptr) (done bool) {
		err = unix.Sendmsg(int(fd), []byte{0}, unix.UnixRights(fds...), nil, 0)
		return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	})
	if err := errors.Join(waited, os.NewSyscallError("sendmsg", err)); err != nil {
		return 0, err
	}
	return len(fds), nil
}

// drop closes the agent's copies of the ends to write to. The caller holds t.mu.
func (t *outlet) drop() {
	for _, file := range t.give {
		_ = file.Close()
	}
	t.give = nil
}

// end must be called when the process has ended or was not started. Reading ends soon after that.
func (t *outlet) end() {
	if t == nil {
		return
	}
	t.mu.Lock()
	t.drop()
	t.mu.Unlock()
	for _, file := range t.from {
		_ = file.SetReadDeadline(time.Now().Add(afterwards)) // fails if read has closed the file already
	}
}

// close must be called after all processes have ended. It waits until all output is written, but no longer than
// mergePatience for each writer.
func (o *outlets) close() {
	o.reading.Wait()
	for _, m := range o.mergers {
		m.flush(mergePatience)
	}
}

// passage makes the two ends of a socket over which the agent sends files to a guard.
func passage() (own, guards *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	_ = unix.SetNonblock(fds[0], true) // so that a goroutine waits and not a thread
	return os.NewFile(uintptr(fds[0]), "passage"), os.NewFile(uintptr(fds[1]), "passage"), nil
}

// receive returns the files of one process. The agent has sent them before the order to start it.
func receive(count int) ([]int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	part, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4*count))
	n, got, _, _, err := unix.Recvmsg(passFD, part, rights, receiveFlags) // the message is there already
	for errors.Is(err, unix.EINTR) {
		n, got, _, _, err = unix.Recvmsg(passFD, part, rights, receiveFlags)
	}
	if err != nil {
		return nil, os.NewSyscallError("recvmsg", err)
	}
	var fds []int
	messages, err := unix.ParseSocketControlMessage(rights[:got])
	for _, m := range messages {
		some, err := unix.ParseUnixRights(&m)
		if err != nil {
			return fds, os.NewSyscallError("recvmsg", err)
		}
		fds = append(fds, some...)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	if err != nil || n != len(part) || len(fds) != count {
		return fds, fmt.Errorf("%d of %d files were received: %w", len(fds), count, errors.Join(err, unix.EBADMSG))
	}
	return fds, nil
}
