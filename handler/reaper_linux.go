package handler

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownProcesses are the processes that this one started, whose exit statuses are awaited, among all of its children: the
// kernel makes a process 1, or a subreaper, the parent of what loses its own.
type ownProcesses struct {
	reap bool

	mu    sync.Mutex // held from before a process is started until it is in pids
	pids  map[int]struct{}
	quit  chan struct{} // nil while the others are not reaped
	ended chan struct{}
}

// start starts a process. From then on the exit statuses of others are taken.
func (o *ownProcesses) start(cmd *exec.Cmd) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.reap && o.quit == nil {
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

// forget is called when the exit status of a process was taken.
func (o *ownProcesses) forget(cmd *exec.Cmd) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.pids, cmd.Process.Pid)
}

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
