package supervise

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// paused waits for the next pause, and returns how long it is, in whole milliseconds.
func (s *stage) paused() time.Duration {
	s.t.Helper()
	line := s.line("after a pause")
	m := pauseField.FindStringSubmatch(line)
	if m == nil {
		s.t.Fatalf("no pause in %s", line)
	}
	pause, err := time.ParseDuration(m[1])
	if err != nil {
		s.t.Fatal(err)
	}
	return pause
}

var pauseField = regexp.MustCompile(`"pause":"([^"]+)"`)

// around reports whether a pause is as long as wanted, give or take a fifth and what was rounded.
func around(pause, want time.Duration) bool {
	return (pause - want).Abs() <= want/5+time.Millisecond
}

func TestThePausesDouble(t *testing.T) {
	s := play(t, "restart backoff=4ms most=1h", "/bin/sh", "-c", "exit 3")
	for want := 4 * time.Millisecond; want <= 256*time.Millisecond; want *= 2 {
		if got := s.paused(); !around(got, want) {
			t.Errorf("a pause of %v, want %v", got, want)
		}
	}
}

func TestThePausesHaveALimit(t *testing.T) {
	const most = 60 * time.Millisecond
	s := play(t, "restart backoff=50ms most="+most.String(), "/bin/sh", "-c", "exit 3")
	for range 4 {
		if got := s.paused(); got > most && !around(got, most) {
			t.Errorf("a pause of %v, want %v at most", got, most)
		}
	}
}

// A command that has run for long enough has not failed because of what the last one failed of.
func TestThePausesBeginAnewAfterALongRun(t *testing.T) {
	s := play(t, "restart backoff=4ms most=64ms", self(t, "exit", "3", "64ms")...)
	for range 4 {
		if got := s.paused(); !around(got, 4*time.Millisecond) {
			t.Errorf("a pause of %v, want 4ms each time", got)
		}
	}
}

// Somebody may be replacing the program just when it has to be started again.
func TestAProgramMayBeAwayForAWhile(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	put := func(script string) {
		t.Helper()
		if err := os.WriteFile(program+".new", []byte("#!/bin/sh\n"+script), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(program+".new", program); err != nil {
			t.Fatal(err)
		}
	}
	put("rm $0; exit 3")
	s := play(t, "restart", program)
	for range 3 {
		s.line("cannot start the command again")
		s.line("after a pause")
	}
	put("exit 0")
	if got := s.ends(); got != 0 || s.said("started the command") != 2 {
		t.Errorf("exit code %d, want the one of the new program, 0:\n%s", got, strings.Join(s.seen, "\n"))
	}
}

// The system may let a process make a cgroup, and not let it put one of its children there.
func TestACommandThatCannotEnterItsCgroupRunsWithoutOne(t *testing.T) {
	s := play(t, "cgroup no-entry", self(t, "exit", "7")...)
	if line := s.line("started the command"); !strings.Contains(line, `"cgroup":false`) {
		t.Errorf("%s: want no cgroup", line)
	}
	if got := s.ends(); got != 7 {
		t.Errorf("exit code %d, want the command's, 7", got)
	}
}

// A signal that comes while leases are revoked is heeded after that.
func TestASignalMayComeDuringTheRevocation(t *testing.T) {
	s := play(t, "restart long-pause told-late", self(t, "member", "1")...)
	pid, _ := s.member()
	s.signal(pid, 9)
	s.line("revoked 1:member:77; living 0")
	if got := s.ends(); got != 128+9 || s.said("started the command") != 1 {
		t.Errorf("exit code %d, want 137, and no restart:\n%s", got, strings.Join(s.seen, "\n"))
	}
}
