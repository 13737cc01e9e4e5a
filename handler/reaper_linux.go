package handler

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ownProcesses are the processes that this one started and waits for. This process may have other children: if it is
// process 1, or a subreaper, the kernel makes it the parent of processes that lose theirs. With reap, it takes the exit
// statuses of the other children. A process that adopts nothing has no children but those that its program started by
// other means, and leaves them alone.
type ownProcesses struct {
	reap bool

	mu    sync.Mutex // held from before a process is started until it is in pids
	pids  map[int]struct{}
	quit  chan struct{} // nil while the other children are not reaped
	ended chan struct{}
}

// start starts a process. The first start also begins the reaping, if there may be anything to reap.
func (o *ownProcesses) start(cmd *exec.Cmd) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.reap && o.quit == nil && adopts() {
		o.quit, o.ended = make(chan struct{}), make(chan struct{})
		go o.run(o.quit, o.ended)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if o.pids == nil {
		o.pids = make(map[int]struct{})
	}
	o.pids[cmd.Process.Pid] = struct{}{}
	return nil
}

// adopts says whether the kernel makes this process the parent of processes below it that lose theirs.
func adopts() bool {
	var subreaper int32
	err := unix.Prctl(unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&subreaper)), 0, 0, 0)
	return os.Getpid() == 1 || err == nil && subreaper != 0
}

// forget must be called when the exit status of a process has been taken.
func (o *ownProcesses) forget(cmd *exec.Cmd) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.pids, cmd.Process.Pid)
}

// run takes the exit statuses of other children until quit is closed.
func (o *ownProcesses) run(quit, ended chan struct{}) {
	defer close(ended)
	chld := make(chan os.Signal, 1)
	signal.Notify(chld, syscall.SIGCHLD)
	defer signal.Stop(chld)
	for {
		o.takeOthers()
		select {
		case <-chld:
		case <-quit:
			return
		}
	}
}

// takeOthers takes the exit statuses of children that were adopted and have ended.
func (o *ownProcesses) takeOthers() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, pid := range childrenOf("self") {
		if _, own := o.pids[pid]; own {
			continue
		}
		for {
			if _, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); !errors.Is(err, unix.EINTR) {
				break
			}
		}
	}
}

// close ends the reaping for good.
func (o *ownProcesses) close() {
	o.mu.Lock()
	quit, ended := o.quit, o.ended
	o.quit, o.reap = nil, false
	o.mu.Unlock()
	if quit != nil {
		close(quit)
		<-ended
	}
}
