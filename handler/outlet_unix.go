//go:build linux || darwin

package handler

import (
	"errors"
	"fmt"
	"io"
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

// outlets are the pipes that the processes of an Exec print to when each line gets a prefix, or the agent looks for a
// line; and those that checks print to. The agent reads them itself, so that no guard has to, and sends their other
// ends to the guard over a socket.
type outlets struct {
	// sinks makes what takes the output of a process: one for both stdout and stderr, or one for each. It is empty if
	// the processes print where their guard does.
	sinks   []func(c drm.Claim) sink
	mergers []*merger // with OutputPrefix: those of sinks
	direct  bool      // the sinks write themselves, and may hang
	reading sync.WaitGroup
	chunks  sync.Pool // of *chunk, for the pipes that have something to read now
}

// sink takes the output of one pipe of a process. Only one goroutine uses it.
type sink interface {
	// take takes the next part. It may use the memory of room, and returns that memory, which may have grown.
	take(text, room []byte) []byte
	// end is called after the last part.
	end()
}

// copying passes the output on as it is. The output is thrown away where to is nil.
type copying struct{ to io.Writer }

func (p copying) take(text, room []byte) []byte {
	if p.to != nil {
		_ = protect(func() error { _, err := p.to.Write(text); return err }) // there is nobody to report an error to
	}
	return room
}

func (copying) end() {}

// passesOutput says whether any process prints to a pipe that the agent makes.
func (cfg *ExecConfig) passesOutput() bool {
	return cfg.Output == OutputPrefix || cfg.ReadyLine != "" || len(cfg.Check) > 0
}

// chunk is the memory for one read and for the lines made from it.
type chunk struct {
	in  [32 << 10]byte
	out []byte
}

func newOutlets(cfg ExecConfig, same bool) *outlets {
	o := &outlets{chunks: sync.Pool{New: func() any { return new(chunk) }}}
	writers := []io.Writer{cfg.Stdout, cfg.Stderr}
	if same {
		writers = writers[:1]
	}
	switch {
	case cfg.Output == OutputPrefix:
		for _, w := range writers {
			m := &merger{to: w}
			o.mergers = append(o.mergers, m)
			o.sinks = append(o.sinks, func(c drm.Claim) sink {
				return &lines{prefix: linePrefix(c.Resource.ID), to: m}
			})
		}
	case cfg.ReadyLine == "":
	case cfg.Output == OutputNone:
		o.sinks = append(o.sinks, func(drm.Claim) sink { return copying{} })
	default:
		for _, w := range writers {
			o.direct = true
			o.sinks = append(o.sinks, func(drm.Claim) sink { return copying{w} })
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

// open makes the pipes of a process, and begins to read them. If line is not nil, each of them is searched for a line.
func (o *outlets) open(c drm.Claim, line *lineWatch) (*outlet, error) {
	sinks := make([]sink, len(o.sinks))
	for i, of := range o.sinks {
		if sinks[i] = of(c); line != nil {
			sinks[i] = &watched{sinks[i], lineWatch{re: line.re, found: line.found}}
		}
	}
	return o.pipe(sinks)
}

// openTail makes the pipe of a check, and begins to read it.
func (o *outlets) openTail(said *tail) (*outlet, error) {
	said.ended = make(chan struct{})
	return o.pipe([]sink{said})
}

// watched is a sink whose output is searched for a line.
type watched struct {
	sink
	line lineWatch
}

func (w *watched) take(text, room []byte) []byte {
	w.line.take(text)
	return w.sink.take(text, room)
}

// pipe makes a pipe for each sink.
func (o *outlets) pipe(sinks []sink) (*outlet, error) {
	if len(sinks) == 0 {
		return nil, nil //nolint:nilnil // a nil outlet is valid
	}
	t := &outlet{}
	for range sinks {
		from, give, err := os.Pipe()
		if err != nil {
			for _, file := range append(t.from, t.give...) {
				_ = file.Close()
			}
			return nil, fmt.Errorf("pipe: %w", err)
		}
		t.from, t.give = append(t.from, from), append(t.give, give)
	}
	for i, s := range sinks {
		o.reading.Go(func() { o.read(t.from[i], s) })
	}
	return t, nil
}

// read reads a pipe until its last writer has closed it, or until the deadline that outlet.end sets.
func (o *outlets) read(from *os.File, to sink) {
	defer from.Close()
	defer to.end()
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
		got.out = to.take(got.in[:n], got.out)
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
	if !o.direct {
		o.reading.Wait()
	} else {
		read := make(chan struct{})
		go func() { // ends with the writer's last Write
			o.reading.Wait()
			close(read)
		}()
		late := time.NewTimer(afterwards + mergePatience)
		defer late.Stop()
		select {
		case <-read:
		case <-late.C:
		}
	}
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
