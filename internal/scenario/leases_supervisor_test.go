package scenario_test

import (
	"bufio"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm/internal/leaselink"
)

// supervisor takes down what a member tells it.
type supervisor struct {
	tb       testing.TB
	listener net.Listener
	address  string

	mu     sync.Mutex
	conn   net.Conn
	leases map[int64]leaselink.Lease // those that are not dropped
	all    int                       // how many there were
	ended  bool
}

func newSupervisor(tb testing.TB) *supervisor {
	tb.Helper()
	dir, err := os.MkdirTemp("", "drm-") // t.TempDir may be too long for a socket
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "unix", path)
	if err != nil {
		tb.Fatal(err)
	}
	s := &supervisor{
		tb: tb, listener: l, address: leaselink.Address(path),
		leases: map[int64]leaselink.Lease{},
	}
	var wg sync.WaitGroup
	wg.Go(s.run)
	tb.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
		_ = os.RemoveAll(dir)
	})
	return s
}

// run takes one connection, until it ends.
func (s *supervisor) run() {
	conn, err := s.listener.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	s.mu.Lock()
	s.conn = conn
	s.mu.Unlock()
	for in := bufio.NewScanner(conn); in.Scan(); {
		held, dropped, err := leaselink.Parse(in.Bytes())
		if err != nil {
			s.tb.Errorf("%s: %v", in.Bytes(), err)
		}
		s.mu.Lock()
		delete(s.leases, dropped)
		if held.ID != 0 {
			s.leases[held.ID] = held
			s.all++
		}
		s.mu.Unlock()
	}
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
}

// counts returns how many leases of members and of claims the member has, and how many it has had in all.
func (s *supervisor) counts() (member, claims, all int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.leases {
		if l.Of == leaselink.Member {
			member++
		} else {
			claims++
		}
	}
	return member, claims, s.all
}

// A supervisor has to know each lease of a member, since those that it does not revoke keep resources from everyone for
// a TTL; and none that is gone.
func TestAMemberTellsItsSupervisorWhichLeasesItHas(t *testing.T) {
	t.Parallel()
	w, r, s := newWorld(t), newRecorder(t), newSupervisor(t)
	cfg := w.config("a", r)
	cfg.Supervisor = s.address
	m := w.startOnly(cfg)
	allocate(t, m, ids(5)...)
	r.until("all are handled", func() bool { return len(r.holders()) == 5 })
	r.until("the supervisor knows both leases", func() bool {
		member, claims, _ := s.counts()
		return member == 1 && claims == 1
	})
	inEtcd, err := w.etcd.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	status, err := w.etcd.Status(t.Context(), w.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	for id, l := range s.leases {
		if l.Cluster != status.Header.ClusterId {
			t.Errorf("lease %x is of cluster %x, want %x", id, l.Cluster, status.Header.ClusterId)
		}
	}
	s.mu.Unlock()
	for _, l := range inEtcd.Leases { // the member gets others in their place, and says so
		if _, err := w.etcd.Revoke(t.Context(), l.ID); err != nil {
			t.Fatal(err)
		}
	}
	r.until("the supervisor knows the new leases, and not the old ones", func() bool {
		member, claims, all := s.counts()
		return member == 1 && claims == 1 && all >= 4
	})
	w.stop(m)
	r.until("all leases are dropped, and the connection has ended", func() bool {
		member, claims, _ := s.counts()
		s.mu.Lock()
		defer s.mu.Unlock()
		return member+claims == 0 && s.ended
	})
}

func TestAMemberGoesOnWithoutItsSupervisor(t *testing.T) {
	t.Parallel()
	w, r, s := newWorld(t), newRecorder(t), newSupervisor(t)
	cfg := w.config("a", r)
	core, logs := observer.New(zap.WarnLevel)
	cfg.Supervisor, cfg.Logger = s.address, zap.New(core)
	m := w.start(cfg)
	r.until("the supervisor knows the member's lease", func() bool { member, _, _ := s.counts(); return member == 1 })
	s.mu.Lock()
	_ = s.conn.Close()
	s.mu.Unlock()
	r.until("it says so", func() bool {
		return slices.ContainsFunc(logs.All(), func(e observer.LoggedEntry) bool {
			return strings.HasPrefix(e.Message, "the supervisor is gone; if this process dies, its leases expire")
		})
	})
	allocate(t, m, ids(3)...)
	r.until("all are handled", func() bool { return len(r.holders()) == 3 })
}
