package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// deafTo is drmctl with some arguments, started by a process that ignores some signals.
func deafTo(t *testing.T, signals string, args ...string) (command []string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const script = `trap '' $0; exec "$@"`
	return append([]string{asProgram, "/bin/sh", "-c", script, signals, self}, args...)
}

// ignores reports whether a process ignores a signal.
func ignores(t *testing.T, pid int, sig syscall.Signal) bool {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := bytes.Cut(text, []byte("\nSigIgn:\t"))
	mask, _, _ := strings.Cut(string(after), "\n")
	bits, err := strconv.ParseUint(mask, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return bits&(1<<(uint(sig)-1)) != 0
}

// nohup(1) ignores SIGHUP for what it starts. What a shell ignores for what it starts in the background of a script
// does not matter: whoever sends such a signal to this process means it.
func TestRunLeavesTheSignalOfHangUpsIgnored(t *testing.T) {
	t.Parallel()
	args := []string{
		"run", "--endpoints", "127.0.0.1:1", "--dial-timeout", "100ms", "--no-restart", "--", "sleep", "1000",
	}
	s := supervised{said: &beginning{}}
	var err error
	if s.process, err = startProcess(s.said, deafTo(t, "HUP INT QUIT", args...)...); err != nil {
		t.Fatal(err)
	}
	killAtEnd(t, s, "sleep")
	pid := s.started(t, 1)
	if !ignores(t, pid, syscall.SIGHUP) || !ignores(t, s.cmd.Process.Pid, syscall.SIGHUP) {
		t.Error("SIGHUP is not ignored any more")
	}
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if err := s.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	if code := ended(t, s); code != 128+int(syscall.SIGINT) {
		t.Errorf("exit code %d, want the one of SIGINT", code)
	}
}

// The terminal sends Ctrl-C to the command as well as to the supervisor, and a process sends SIGINT to one of them. The
// first thread of the process tells the two apart, so it must be left to that.
func TestRunKnowsTheKeysOfItsTerminal(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []bool{true, false} {
		keys, tty := terminal(t)
		log := &tail{copyTo: &beginning{}}
		cmd := exec.CommandContext(t.Context(), self, "run", "--endpoints", "127.0.0.1:1", "--dial-timeout", "100ms",
			"--log-level", "debug", "--", "/bin/sh", "-c", `trap '' INT; echo it is up >&2; exec sleep 1000`)
		cmd.Stdin, cmd.Stderr = tty, log
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		s := supervised{&process{cmd: cmd, log: log, done: make(chan struct{})}, log.copyTo.(*beginning)}
		go func() {
			defer close(s.done)
			s.err = cmd.Wait()
		}()
		killAtEnd(t, s, "sleep")
		says := func(text string) {
			t.Helper()
			eventually(t, func() error {
				if !strings.Contains(s.said.all(), text) {
					return fmt.Errorf("nobody says %q: %s", text, s.said.all())
				}
				return nil
			})
		}
		says("it is up")
		if key {
			pid := strconv.Itoa(cmd.Process.Pid)
			eventually(t, func() error { // until the first thread waits for the signals of keys
				call, err := os.ReadFile("/proc/" + pid + "/task/" + pid + "/syscall")
				if err == nil && !bytes.HasPrefix(call, fmt.Appendf(nil, "%d ", unix.SYS_RT_SIGTIMEDWAIT)) {
					return fmt.Errorf("it is in the system call %s", call)
				}
				return nil
			})
			_, err = keys.WriteString("\x03")
		} else {
			err = cmd.Process.Signal(syscall.SIGINT)
		}
		if err != nil {
			t.Fatal(err)
		}
		if key { // if another thread takes it, which is rare, it counts as one of a process
			eventually(t, func() error {
				if !strings.Contains(s.said.all(), "the terminal has sent a signal") {
					_, err := keys.WriteString("\x03")
					return fmt.Errorf("no key has sent it: %s, %w", s.said.all(), err)
				}
				return nil
			})
		} else {
			says("passed a signal on")
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if code := ended(t, s); code != 128+int(syscall.SIGTERM) {
			t.Errorf("exit code %d, want the one of SIGTERM: %s", code, s.said.all())
		}
		if both := "the terminal has sent a signal"; !key && strings.Contains(s.said.all(), both) {
			t.Errorf("a signal of a process counts as one of a key: %s", s.said.all())
		}
	}
}

// terminal makes a terminal. What is written to keys are its keys.
func terminal(t *testing.T) (keys, tty *os.File) {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	n, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	return keys, tty
}
