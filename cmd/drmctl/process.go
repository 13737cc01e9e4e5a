package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// process is another drmctl, run by the demo.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer // closing it asks an agent to stop
	log   *tail
	done  chan struct{} // closed when the process has ended, after err is set
	err   error
}

// startProcess runs this program with other arguments, without the DRM_ environment, which is meant for this process.
// Its log lines also go to copyTo, if that is not nil.
func startProcess(copyTo io.Writer, args ...string) (*process, error) {
	return startProcessTo(nil, copyTo, args...)
}

// startProcessTo is startProcess, and also says where the stdout of the program goes.
func startProcessTo(stdout, copyTo io.Writer, args ...string) (*process, error) {
	return startProcessWith(nil, stdout, copyTo, args...)
}

// startProcessWith is startProcessTo, and also sets variables of the environment.
func startProcessWith(env []string, stdout, copyTo io.Writer, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find drmctl itself: %w", err)
	}
	p := &process{log: &tail{copyTo: copyTo}, done: make(chan struct{})}
	// Only its owner ends it, by stop or kill, or it ends by itself.
	p.cmd = exec.CommandContext(context.Background(), self, args...)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "DRM_") {
			p.cmd.Env = append(p.cmd.Env, e)
		}
	}
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stdout, p.cmd.Stderr = stdout, p.log
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start drmctl %s: %w", args[0], err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start drmctl %s: %w", args[0], err)
	}
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	return p, nil
}

// kill kills the process, and waits for its end.
func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(5 * time.Second):
		return fmt.Errorf("process %d does not end", p.cmd.Process.Pid)
	}
}

// stop asks the process to end, and waits for that. It kills the process when ctx ends first.
func (p *process) stop(ctx context.Context) error {
	_ = p.stdin.Close() // an error means that it is closed already
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("%w: %s", p.err, p.log.last())
		}
		return nil
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("did not stop in time: %w", ctx.Err()), p.kill())
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	copyTo io.Writer

	mu   sync.Mutex
	text string
}

// Write implements io.Writer. It never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	const most = 4096
	if t.text += string(b); len(t.text) > most {
		t.text = t.text[len(t.text)-most:]
	}
	if t.copyTo != nil {
		_, _ = t.copyTo.Write(b) // losing a copy does not matter
	}
	return len(b), nil
}

// last is the last line.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(t.text)
	return text[strings.LastIndex(text, "\n")+1:]
}
