package supervise

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// revocation is in each line that tells of a revocation.
const revocation = "; living "

func TestLeasesAreRevokedOnceTheCommandIsKilled(t *testing.T) {
	for _, options := range []string{"restart", "restart cgroup"} {
		t.Run(options, func(t *testing.T) {
			s := play(t, options, self(t, "member", "1", "2", "3", "-3")...)
			pid, _ := s.member()
			s.signal(pid, syscall.SIGKILL)
			if got, want := s.line(revocation), "revoked 1:member:77 2:claims:77; living 0"; got != want {
				t.Errorf("%q, want %q", got, want)
			}
			const ended = "ended with signal: killed, to be written in [/drm/a/deaths/m]"
			if got := s.line("ended with"); got != ended {
				t.Errorf("%q, want %q", got, ended)
			}
			again, _ := s.member() // it is started again, and has leases again
			s.signal(again, syscall.SIGKILL)
			s.line("revoked 1:member:77 2:claims:77; living 0")
		})
	}
}

// What is left of a command may still act for its resources, so its leases must live on until that is gone. The chain
// is so deep that it cannot be gone after the first look.
func TestNothingIsRevokedWhileAGrandchildLives(t *testing.T) {
	for _, options := range []string{"", "cgroup"} {
		for _, how := range []string{"chain", "daemon"} {
			t.Run(strings.TrimSpace(options+" "+how), func(t *testing.T) {
				s := play(t, options, self(t, "member", "1", how)...)
				pid, _ := s.member()
				if s.said("chained") == 0 {
					s.line("chained")
				}
				s.signal(pid, syscall.SIGKILL)
				if got, want := s.line(revocation), "revoked 1:member:77; living 0"; got != want {
					t.Fatalf("%q, want %q", got, want)
				}
				if code := s.ends(); code != 128+int(syscall.SIGKILL) {
					t.Errorf("exit code %d", code)
				}
			})
		}
	}
}

func TestNothingIsRevokedWhereSomethingDoesNotEnd(t *testing.T) {
	s := play(t, "impatient", self(t, "member", "1", "chain")...)
	pid, _ := s.member()
	if s.said("chained") == 0 {
		s.line("chained")
	}
	s.signal(pid, syscall.SIGKILL)
	s.line("processes of the command do not end")
	for _, pid := range s.pids() { // they hold the output that ends waits for
		if pid != s.cmd.Process.Pid {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	s.ends()
	if s.said(revocation) > 0 {
		t.Errorf("leases were revoked, though not everything was gone:\n%s", strings.Join(s.seen, "\n"))
	}
}

func TestACommandThatIsStoppedIsNotDead(t *testing.T) {
	s := play(t, "", self(t, "member", "1")...)
	pid, _ := s.member()
	s.signal(pid, syscall.SIGSTOP)
	await(t, "the member is stopped", func() bool {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return strings.Contains(string(text), ") T ")
	})
	s.tell(syscall.SIGUSR1)
	await(t, "the signal was passed on", func() bool {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		return strings.Contains(string(text), "ShdPnd:\t0000000000000200")
	})
	s.signal(pid, syscall.SIGCONT)
	s.line("got user defined signal 1")
	if s.said(revocation) > 0 || s.said("the command ended") > 0 {
		t.Errorf("a command that was stopped counts as dead:\n%s", strings.Join(s.seen, "\n"))
	}
	s.signal(pid, syscall.SIGKILL)
	s.line("revoked 1:member:77; living 0")
}

func TestTheCommandGoesOnWithoutItsSupervisor(t *testing.T) {
	s := play(t, "restart", self(t, "member", "1")...)
	pid, _ := s.member()
	s.tell(syscall.SIGKILL)
	s.line("the supervisor is gone")
	s.signal(pid, syscall.SIGUSR1)
	s.line("got user defined signal 1")
}

func TestTheExitCodeIsKept(t *testing.T) {
	for _, code := range []int{0, 1, 42, 128 + 9, 128 + 15} {
		s := play(t, "", self(t, "exit", fmt.Sprint(code))...)
		if got := s.ends(); got != code {
			t.Errorf("exit code %d, want %d", got, code)
		}
	}
	s := play(t, "restart", self(t, "exit", "0")...)
	if got := s.ends(); got != 0 || s.said("started the command") != 1 {
		t.Errorf("exit code %d, want 0 and no restart:\n%s", got, strings.Join(s.seen, "\n"))
	}
}

func TestACommandThatFailsIsStartedAgain(t *testing.T) {
	s := play(t, "restart", self(t, "exit", "3")...)
	for range 5 {
		s.line("started the command")
	}
	s.tell(syscall.SIGTERM)
	if got := s.ends(); got != 3 && got != 128+15 {
		t.Errorf("exit code %d, want the command's", got)
	}
}

func TestASignalEndsThePause(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		s := play(t, "restart long-pause", self(t, "exit", "3")...)
		s.line("after a pause")
		s.tell(syscall.SIGUSR1) // means nothing then
		s.tell(sig)
		if got := s.ends(); got != 3 {
			t.Errorf("%v: exit code %d, want the command's, 3", sig, got)
		}
	}
}

func TestSignalsArePassedOn(t *testing.T) {
	s := play(t, "restart", self(t, "member")...)
	s.member()
	s.tell(syscall.SIGUSR1)
	s.line("got user defined signal 1")
	s.tell(syscall.SIGTERM)
	s.line("got terminated")
	s.tell(syscall.SIGTERM) // passed on as well
	if got := s.ends(); got != 5 || s.said("started the command") != 1 {
		t.Errorf("exit code %d, want the command's, 5, and no restart:\n%s", got, strings.Join(s.seen, "\n"))
	}
	s = play(t, "restart", self(t, "member")...)
	s.member()
	s.tell(syscall.SIGHUP) // which the member does not catch
	if got := s.ends(); got != 128+1 || s.said("started the command") != 1 {
		t.Errorf("exit code %d, want %d, and no restart:\n%s", got, 128+1, strings.Join(s.seen, "\n"))
	}
}

func TestACommandThatCannotBeStarted(t *testing.T) {
	s := play(t, "restart", "/no/such/program")
	s.line("error start /no/such/program: ")
	if s.ends(); s.said("started the command") > 0 {
		t.Errorf("it was started:\n%s", strings.Join(s.seen, "\n"))
	}
}

// A shell that becomes the supervisor by exec may have started others before. They are not the command's.
func TestChildrenOfBeforeAreLeftAlone(t *testing.T) {
	s := play(t, "parent", self(t, "member", "1", "chain")...)
	var before, pid int
	for before == 0 || pid == 0 {
		switch one, address := s.member(); address {
		case "":
			before = one
		default:
			pid = one
		}
	}
	if s.said("chained") == 0 {
		s.line("chained")
	}
	s.signal(pid, syscall.SIGKILL)
	if got, want := s.line(revocation), "revoked 1:member:77; living 1"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	s.signal(before, syscall.SIGUSR1)
	s.line("got user defined signal 1")
}

func TestOnlyProcessesBelowHandOverLeases(t *testing.T) {
	s := play(t, "", self(t, "member", "2")...)
	pid, address := s.member()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", strings.TrimPrefix(address, "unix:"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = conn.Write([]byte(`{"lease":"1"}` + "\n"))
	s.line("not below the supervisor")
	s.signal(pid, syscall.SIGKILL)
	s.line("revoked 2:claims:77; living 0")
}

func TestALinkThatWasClosedStillCounts(t *testing.T) {
	s := play(t, "", self(t, "member", "1", "2", "-2", "close")...)
	pid, _ := s.member()
	s.signal(pid, syscall.SIGKILL)
	s.line("revoked 1:member:77; living 0")
}

func TestNothingOfTheSupervisorStays(t *testing.T) {
	s := play(t, "cgroup", self(t, "member", "1", "chain")...)
	pid, address := s.member()
	own, err := ownCgroup()
	s.signal(pid, syscall.SIGKILL)
	s.ends()
	dir, _, _ := strings.Cut(strings.TrimPrefix(address, "unix:"), "/1")
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there (%v)", dir, err)
	}
	if err == nil {
		name := fmt.Sprintf("%s/drm-run-%d-1", own, s.cmd.Process.Pid)
		if _, err := os.Stat(name); !os.IsNotExist(err) {
			t.Errorf("%s is still there (%v)", name, err)
		}
	}
}

// A supervisor that is killed cannot remove its cgroup. The next one does.
func TestTheCgroupOfAKilledSupervisorIsRemoved(t *testing.T) {
	own, err := ownCgroup()
	if err != nil {
		t.Skip(err)
	}
	stale := own + "/drm-run-999999999-1" // no process can have that number
	if err := os.Mkdir(stale, 0o700); err != nil {
		t.Skip(err)
	}
	s := play(t, "cgroup", self(t, "exit", "0")...)
	s.ends()
	if _, err := os.Stat(stale); !os.IsNotExist(err) {
		_ = os.Remove(stale)
		t.Errorf("%s is still there (%v)", stale, err)
	}
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !ok() {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("not in time: %s", what)
		}
	}
}
