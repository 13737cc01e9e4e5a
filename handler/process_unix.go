//go:build linux || darwin

package handler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/distributed-resource-manager/drm"
)

const execSupported = true

const (
	// untilAtMost bounds the validity that a guard is told of, for claims that never end (in tests).
	untilAtMost = time.Hour
	// untilSlack is the least change of a deadline that a guard is told of, since computing one twice differs a little.
	untilSlack = 10 * time.Millisecond
)

// process is the agent's side of one guard and the process under it.
type process struct {
	claim   drm.Claim
	guard   *exec.Cmd
	control *os.File // orders to the guard. Closing it kills the process
	pid     int      // of the process, and of its group

	mu    sync.Mutex // held while something is written to control
	until int64      // what the guard was told last

	done chan struct{} // closed when the guard ended
	err  error         // how the process ended; set before done is closed
}

// deadline is the end of the claim's validity on clockNow, in milliseconds; 1, which is long ago, if there is none.
func deadline(c drm.Claim) (until int64, left time.Duration) {
	now := clockNow() // before the validity: if the agent is stopped between the two, the sum is too early, never too late
	left = min(c.Remaining(), untilAtMost)
	if left <= 0 {
		return 1, 0
	}
	return now + left.Milliseconds(), left
}

// startProcess starts a guard and the process under it, and returns once the process runs.
func startProcess(ctx context.Context, command []string, cfg ExecConfig, c drm.Claim) (*process, error) {
	orders, control, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	reports, toAgent, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, orders.Close(), control.Close())
	}
	cmd := exec.Command(command[0], command[1:]...) //nolint:noctx // it outlives ctx, to end its process in order
	cmd.Dir = cfg.Dir
	cmd.Env = execEnv(os.Environ(), cfg.Env, c)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = orders, cfg.Stdout, cfg.Stderr
	cmd.ExtraFiles = []*os.File{toAgent}
	cmd.WaitDelay = time.Second // output of a process that escaped is not waited for
	// A session of its own: a terminal's Ctrl-C is for the agent, which ends the processes in order.
	cmd.SysProcAttr = guardAttributes()
	err = cmd.Start()
	_, _ = orders.Close(), toAgent.Close()
	if err != nil {
		_, _ = control.Close(), reports.Close()
		if _, dirErr := os.Stat(cfg.Dir); cfg.Dir != "" && dirErr != nil { // err names the program all the same
			err = dirErr
		}
		return nil, fmt.Errorf("guard process: %w", err)
	}

	p := &process{claim: c, guard: cmd, control: control, done: make(chan struct{})}
	started := make(chan report, 1)
	go p.follow(reports, started)

	stop := context.AfterFunc(ctx, func() { _ = control.Close() }) // also ends a write that is stuck
	first := order{Input: append(c.Resource.Object(), '\n')}
	first.Until, _ = deadline(c)
	p.until = first.Until
	sendErr := p.send(first, 0)
	var answer report
	select {
	case answer = <-started:
	case <-p.done: // maybe right after it answered
		select {
		case answer = <-started:
		default:
		}
	}
	if !stop() || answer.PID == 0 {
		p.kill()
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case answer.Error != "":
			return nil, errors.New(answer.Error)
		case sendErr != nil:
			return nil, fmt.Errorf("guard process: %w", sendErr)
		default:
			return nil, p.err
		}
	}
	p.pid = answer.PID
	return p, nil
}

// follow reads what the guard reports until it ends.
func (p *process) follow(reports *os.File, started chan<- report) {
	defer close(p.done)
	dec := json.NewDecoder(reports)
	var first, last report
	if dec.Decode(&first) == nil {
		started <- first
		_ = dec.Decode(&last)
	}
	_ = reports.Close()
	if first.PID != 0 && last.Ended == "" {
		// The guard was killed, and the process by the kernel with it where there is PR_SET_PDEATHSIG. The rest of the
		// group is killed here, before anything else can be started under its number.
		_ = unix.Kill(-first.PID, unix.SIGKILL)
	}
	err := p.guard.Wait()
	_ = p.control.Close()
	switch {
	case last.Ended != "":
		p.err = fmt.Errorf("process %d ended: %s", first.PID, last.Ended)
	case err != nil:
		p.err = fmt.Errorf("guard process: %w", err)
	default:
		p.err = errors.New("guard process ended without a report")
	}
}

// send writes an order, for at most patience; 0 stands for as long as it takes.
func (p *process) send(o order, patience time.Duration) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if patience > 0 {
		if err := p.control.SetWriteDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		defer func() { _ = p.control.SetWriteDeadline(time.Time{}) }()
	}
	_, err = p.control.Write(text)
	return err
}

// renew tells the guard of the claim's deadline if it changed, and gives the time left. It never blocks: what a guard
// that does not read misses is told the next time, and a guard which misses too much kills its process.
func (p *process) renew() time.Duration {
	if !p.mu.TryLock() {
		return renewAtMost
	}
	defer p.mu.Unlock()
	until, left := deadline(p.claim)
	if change := until - p.until; change < untilSlack.Milliseconds() && -change < untilSlack.Milliseconds() {
		return left
	}
	text, err := json.Marshal(order{Until: until})
	if err != nil {
		return left
	}
	conn, err := p.control.SyscallConn()
	if err != nil {
		return renewAtMost // closed
	}
	// One attempt, whether or not the pipe has room: so short a text goes whole or not at all (PIPE_BUF).
	if err := conn.Write(func(fd uintptr) bool {
		if _, err := unix.Write(int(fd), text); err == nil {
			p.until = until
		}
		return true
	}); err != nil {
		return renewAtMost
	}
	return left
}

// terminate has the guard send SIGTERM, and SIGKILL after grace.
func (p *process) terminate(grace time.Duration) error {
	return p.send(order{TerminateMS: max(1, grace.Milliseconds())}, killWait)
}

// kill has the guard kill the process, and kills both if the guard does not obey. It returns when the guard ended.
func (p *process) kill() {
	_ = p.control.Close()
	timer := time.NewTimer(killWait)
	defer timer.Stop()
	select {
	case <-p.done:
		return
	case <-timer.C:
	}
	if p.pid != 0 {
		_ = unix.Kill(-p.pid, unix.SIGKILL)
	}
	_ = p.guard.Process.Kill()
	<-p.done
}

// guardAttributes makes a guard independent of the agent's terminal, and tell it where the kernel can when the agent
// dies. That signal also comes when only the thread ends that started the guard; the guard tells the two apart.
func guardAttributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	signalAtParentDeath(attr, syscall.SIGUSR1)
	return attr
}
