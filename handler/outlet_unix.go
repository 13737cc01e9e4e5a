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

// afterwards is how long the output of a process is read that has ended: what left its group may hold it open.
const afterwards = time.Second

// outlets are where the processes of an Exec print, where each line gets a prefix: pipes that the agent reads itself,
// so that no guard has to. The ends that are written to go to a guard over a socket.
type outlets struct {
	mergers []*merger // one for both stdout and stderr, or one for each; none: the processes print where their guard does
	reading sync.WaitGroup
	chunks  sync.Pool // of *chunk, for those who have something to read just now
}

// chunk is room for what is read at once, and for what is made of it.
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

// outlet is where one process prints. A nil one is that of its guard.
type outlet struct {
	from []*os.File // what the agent reads

	mu   sync.Mutex
	give []*os.File // what is written to, until the guard has it
}

// open makes the pipes of a process, and begins to read them.
func (o *outlets) open(c drm.Claim) (*outlet, error) {
	if len(o.mergers) == 0 {
		return nil, nil //nolint:nilnil // there is nothing to do for a nil outlet
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

// read reads what a process prints until nobody can print there any more, or for as long as outlet.end says.
func (o *outlets) read(from *os.File, l *lines) {
	defer from.Close()
	defer l.end()
	raw, err := from.SyscallConn()
	if err != nil {
		return
	}
	for {
		var got *chunk // there are as many as have something to say, and not as many as there are processes
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

// pass gives the guard the ends to write to, and says how many.
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
		if err := unix.SetNonblock(fd, false); err != nil { // a program expects to wait
			return 0, os.NewSyscallError("fcntl", err)
		}
		fds = append(fds, fd)
	}
	raw, err := over.SyscallConn()
	if err != nil || len(fds) == 0 { // the guard has ended
		return 0, err
	}
	// A byte each, so that the guard gets with it what belongs to one process.
	waited := raw.Write(func(fd uintptr) (done bool) {
		err = unix.Sendmsg(int(fd), []byte{0}, unix.UnixRights(fds...), nil, 0)
		return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	})
	if err := errors.Join(waited, os.NewSyscallError("sendmsg", err)); err != nil {
		return 0, err
	}
	return len(fds), nil
}

// drop closes the ends to write to. t.mu is held.
func (t *outlet) drop() {
	for _, file := range t.give {
		_ = file.Close()
	}
	t.give = nil
}

// end is for when the process has ended, or was not started.
func (t *outlet) end() {
	if t == nil {
		return
	}
	t.mu.Lock()
	t.drop()
	t.mu.Unlock()
	for _, file := range t.from {
		_ = file.SetReadDeadline(time.Now().Add(afterwards)) // unless it is closed
	}
}

// close is for after all processes have ended. It waits until what they printed is written, but not for long.
func (o *outlets) close() {
	o.reading.Wait()
	for _, m := range o.mergers {
		m.flush(mergePatience)
	}
}

// passage makes the socket over which a guard gets files. The second end is the guard's.
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
	_ = unix.SetNonblock(fds[0], true) // so that a goroutine waits, and not a thread
	return os.NewFile(uintptr(fds[0]), "passage"), os.NewFile(uintptr(fds[1]), "passage"), nil
}

// receive takes the files of one process, which have been sent before the order to start it.
func receive(count int) ([]int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	part, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4*count))
	n, got, _, _, err := unix.Recvmsg(passFD, part, rights, receiveFlags) // it is there already
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
		return fds, fmt.Errorf("%d files came of %d: %w", len(fds), count, errors.Join(err, unix.EBADMSG))
	}
	return fds, nil
}
