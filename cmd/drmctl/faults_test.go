//go:build unix

package main

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/faultproxy"
	"github.com/distributed-resource-manager/drm/internal/journal"
)

// These tests put real processes through real faults. The journal of the webhook's receiver must never show a resource
// handled by two members at once, nor a token that falls.

const faultTTL = 3 * time.Second

func newFaultTheatre(t *testing.T, n int) (*theatre, []string) {
	th := newTheatre(t)
	th.ttl = faultTTL
	ids := numbered("r", n)
	th.source.fill(ids)
	return th, ids
}

func (th *theatre) check(ids []string) {
	th.t.Helper()
	for _, f := range journal.Check(th.journal.Events(), journal.Expect{Resources: ids}) {
		th.t.Error(f)
	}
}

func TestAMemberThatWasStoppedForLongerThanItsLeaseComesBackWithNothing(t *testing.T) {
	th, ids := newFaultTheatre(t, 200)
	for _, id := range []string{"a", "b"} {
		th.start(id)
	}
	before := th.settled(len(ids), "a", "b")

	if err := th.agents["a"].cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	th.journal.Record(journal.Event{Member: "a", Action: journal.Gone}) // it does nothing while it is stopped
	th.settled(len(ids), "b")
	mark := th.journal.Len()
	th.journal.Record(journal.Event{Member: "a", Action: journal.Started})
	if err := th.agents["a"].cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	after := th.settled(len(ids), "a", "b")
	for id, m := range before {
		if after[id] != m {
			t.Errorf("%s was with %s, and is with %s after all is over", id, m, after[id])
		}
	}
	for _, e := range th.since(mark) {
		if e.Member == "a" && e.Action == journal.Handle && before[e.Resource] != "a" {
			t.Errorf("a handled %s, which is not its own", e.Resource)
		}
	}
	th.check(ids)
}

func TestAMemberThatIsCutOffEndsBeforeOthersBegin(t *testing.T) {
	th, ids := newFaultTheatre(t, 200)
	proxy, err := faultproxy.New(th.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	th.start("a", "--endpoints", proxy.Endpoint())
	th.start("b")
	before := th.settled(len(ids), "a", "b")

	proxy.BlackHole() // a lives, and its webhook is there; only etcd is not
	th.settled(len(ids), "b")
	for id, handlings := range journal.Timeline(th.journal.Events()) {
		if before[id] == "a" && handlings[len(handlings)-2].End != journal.Terminate {
			t.Errorf("%s was taken over without a terminate of a", id)
		}
	}
	proxy.Heal()
	th.settled(len(ids), "a", "b")
	th.check(ids)
}

func TestAnEtcdThatIsGoneForLongerThanALeaseEndsEverythingAndItBeginsAgain(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	etcd := func() *process {
		p, err := startProcess(nil, "etcd", "--data-dir", dir, "--listen-client", endpoint, "--listen-peer", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.kill() })
		return p
	}
	first := etcd()
	th, ids := newFaultTheatre(t, 200)
	th.endpoint = endpoint
	th.global = []string{"--endpoints", endpoint, "--app", "e2e", "--command-timeout", "30s", "--dial-timeout", "30s"}
	for _, id := range []string{"a", "b"} {
		th.start(id)
	}
	th.settled(len(ids), "a", "b")

	if err := first.kill(); err != nil {
		t.Fatal(err)
	}
	th.holders("everything has ended", func(held map[string]string) bool { return len(held) == 0 })
	mark := th.journal.Len()
	etcd()
	th.settled(len(ids), "a", "b")
	var handled []string
	for _, e := range th.since(mark) {
		if e.Action == journal.Handle {
			handled = append(handled, e.Resource)
		}
	}
	if slices.Sort(handled); len(slices.Compact(handled)) != len(ids) {
		t.Errorf("%d resources were handled again", len(handled))
	}
	th.check(ids)
}

func TestChildrenOfAKilledAgentDieWithIt(t *testing.T) {
	th, _ := newFaultTheatre(t, 1)
	pids := t.TempDir() + "/pids"
	th.start("a", "--handler-url", "", "--handler-exec", fmt.Sprintf("sh -c 'echo $$ >> %s; exec sleep 600'", pids))
	var pid int
	eventually(t, func() error {
		text, err := os.ReadFile(pids)
		if err != nil {
			return err
		}
		_, err = fmt.Sscan(strings.TrimSpace(string(text)), &pid)
		return err
	})
	th.kill("a")
	eventually(t, func() error {
		if err := syscall.Kill(pid, 0); err == nil {
			return fmt.Errorf("process %d lives", pid)
		}
		return nil
	})
}
