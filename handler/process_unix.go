//go:build linux || darwin

package handler

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/distributed-resource-manager/drm"
)

const execSupported = true

// process is what the agent knows about one process of a guard.
type process struct {
	claim  drm.Claim
	link   *guardLink
	outlet *outlet
	halt   func(error) // gets an error when the process is stopped (SIGSTOP), and nil once it goes on or ended

	id    int          // its number among the link's processes
	until int64        // the deadline that the guard knows; under the link's lock
	pid   atomic.Int64 // the number of the process and of its group; 0 until it runs

	started chan struct{} // closed when it runs
	done    chan struct{} // closed when nothing of it is left, or its guard ended
	err     error         // how it ended, or why it was not started; set before done is closed
}

// startProcess starts a process under one of the guards, and returns once the process runs or ctx ends. The error says
// why it was not started. halt is called from a goroutine of the guard's link.
func startProcess(ctx context.Context, guards *guards, c drm.Claim, halt func(error)) (*process, error) {
	p := &process{claim: c, halt: halt, started: make(chan struct{}), done: make(chan struct{})}
	var err error
	if p.outlet, err = guards.outlets.open(c); err != nil {
		return nil, err
	}
	for {
		until, left := deadline(clockNow(), c)
		if left <= 0 {
			p.outlet.end()
			return nil, errors.New(claimEnded)
		}
		if p.link, err = guards.take(); err != nil {
			p.outlet.end()
			return nil, err
		}
		if p.link.add(p, startOrder{Input: append(c.Resource.Object(), '\n'), Env: claimEnv(c), Until: until}, left) {
			break
		}
	}
	select {
	case <-p.started:
		return p, nil
	case <-p.done:
		select {
		case <-p.started:
			return p, nil // it did run before it ended
		default:
			return nil, p.err
		}
	case <-ctx.Done():
		p.kill()
		return nil, context.Cause(ctx)
	}
}

// hear handles a report of the guard about the process.
func (p *process) hear(r report) {
	switch {
	case r.PID != 0:
		p.pid.Store(int64(r.PID))
		close(p.started)
	case r.Stopped != "":
		p.halt(errors.New(r.Stopped))
	case r.Resumed:
		p.halt(nil)
	case r.Error != "":
		p.end(errors.New(r.Error))
	case r.Ended != "":
		p.end(fmt.Errorf("process %d ended: %s", p.pid.Load(), r.Ended))
	}
}

// end marks the process as ended.
func (p *process) end(err error) {
	p.outlet.end()
	p.halt(nil)
	p.err = err
	close(p.done)
}

// terminate orders the guard to send SIGTERM, and SIGKILL after grace.
func (p *process) terminate(grace time.Duration) {
	p.link.send(order{Terminate: p.id, GraceMS: max(1, grace.Milliseconds())})
}

// kill orders the guard to kill the process, and kills the guard if it does not obey. It returns when nothing is left
// of the process; that may never happen if the kernel does not let go of it. For a process that does not run its
// program yet, it also returns when the guard has obeyed, because the program cannot begin any more.
func (p *process) kill() {
	seq := p.link.send(order{Kill: p.id})
	if _, suspect := p.link.answered(seq); suspect {
		p.link.kill(errUnresponsive)
	}
	timer := time.NewTimer(killWait)
	defer timer.Stop()
	select {
	case <-p.done:
		return
	case <-timer.C:
	}
	if obeyed, _ := p.link.answered(seq); !obeyed {
		p.link.kill(fmt.Errorf("it was killed, since it did not obey for %s", killWait))
	} else if p.pid.Load() == 0 {
		return
	}
	<-p.done
}
