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

// process is the agent's side of one process.
type process struct {
	claim  drm.Claim
	link   *guardLink
	outlet *outlet
	halt   func(error) // told that the process is stopped (SIGSTOP), and nil once it goes on or ended

	id    int          // in the link
	until int64        // what the guard was told last; under the link's lock
	pid   atomic.Int64 // of the process, and of its group; 0 until it runs

	started chan struct{} // closed when it runs
	done    chan struct{} // closed when nothing of it is left, or its guard ended
	err     error         // how it ended, or why it was not started; set before done is closed
}

// startProcess starts a process under one of the guards, and returns once it runs.
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
			return p, nil // it ran
		default:
			return nil, p.err
		}
	case <-ctx.Done():
		p.kill()
		return nil, context.Cause(ctx)
	}
}

// hear is told what the guard reports.
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

func (p *process) end(err error) {
	p.outlet.end()
	p.halt(nil)
	p.err = err
	close(p.done)
}

// terminate has the guard send SIGTERM, and SIGKILL after grace.
func (p *process) terminate(grace time.Duration) {
	p.link.send(order{Terminate: p.id, GraceMS: max(1, grace.Milliseconds())})
}

// kill has the guard kill the process, and kills the guard if it does not obey. It returns when nothing is left, which
// may be never if the kernel does not let go of the process; or, for a process that has not begun to run its program,
// when it cannot any more.
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
