package supervise

import (
	"strings"
	"syscall"
	"testing"
)

// On a terminal, too, a signal that a process has sent to the supervisor has come to it alone.
func TestEachSignalIsPassedOn(t *testing.T) {
	for _, options := range []string{"restart", "restart terminal", "restart keyless"} {
		t.Run(options, func(t *testing.T) {
			s := play(t, options, self(t, "member", "catch")...)
			s.member()
			for _, sig := range []syscall.Signal{
				syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGINT,
			} {
				s.tell(sig)
				s.line("got " + sig.String())
			}
			s.tell(syscall.SIGTERM)
			s.line("got terminated")
			s.tell(syscall.SIGTERM)
			if got := s.ends(); got != 5 || s.said("started the command") != 1 {
				t.Errorf("exit code %d, want the command's, 5, and no restart:\n%s", got, strings.Join(s.seen, "\n"))
			}
		})
	}
}

// The terminal sends the signal of a key to all of the group. A command that gets it twice may take the second for an
// order not to wait any longer. Where another thread of the supervisor takes the signal first, which is rare, the
// command does get it twice.
func TestTheSignalOfAKeyComesOnce(t *testing.T) {
	for key, sig := range map[string]syscall.Signal{"\x03": syscall.SIGINT, "\x1c": syscall.SIGQUIT} {
		s := play(t, "restart terminal", self(t, "member", "catch")...)
		pid, _ := s.member()
		const presses = 5
		heeded := func() int { return s.said("the terminal has sent") + s.said("passed a signal on") }
		for n := range presses {
			s.press(key)
			for heeded() <= n || s.said("got "+sig.String()) <= n {
				s.line("") // whatever comes
			}
		}
		twice := s.said("passed a signal on")
		if 2*twice >= presses {
			t.Errorf("%d of %d signals of keys count as those of a process", twice, presses)
		}
		// A signal that comes to the supervisor later is passed on later.
		s.tell(syscall.SIGUSR1)
		s.line("got user defined signal 1")
		if n := s.said("got " + sig.String()); n < presses || n > presses+twice {
			t.Errorf("%v came %d times, want %d, and %d more at most", sig, n, presses, twice)
		}
		s.signal(pid, syscall.SIGKILL)
		if got := s.ends(); got != 128+9 || s.said("started the command") != 1 {
			t.Errorf("%v: exit code %d, want 137, and no restart:\n%s", sig, got, strings.Join(s.seen, "\n"))
		}
	}
}

// The terminal does not reach a command that has left the supervisor's group.
func TestTheSignalOfAKeyIsPassedOnToAnotherGroup(t *testing.T) {
	s := play(t, "restart terminal", self(t, "member", "catch", "session")...)
	s.member()
	for key, sig := range map[string]syscall.Signal{"\x03": syscall.SIGINT, "\x1c": syscall.SIGQUIT} {
		s.press(key)
		s.line("got " + sig.String())
	}
}

// The supervisor does not kill a command that does not end.
func TestACommandThatDoesNotHeedASignalIsWaitedFor(t *testing.T) {
	s := play(t, "restart", self(t, "member", "1", "deaf")...)
	pid, _ := s.member()
	for range 3 {
		s.tell(syscall.SIGTERM)
		s.line("got terminated")
	}
	s.signal(pid, syscall.SIGKILL)
	s.line("revoked 1:member:77; living 0")
	if got := s.ends(); got != 128+9 || s.said("started the command") != 1 {
		t.Errorf("exit code %d, want 137, and no restart:\n%s", got, strings.Join(s.seen, "\n"))
	}
}
