package groupsim

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/membership"
)

// errCut is the error of a request that is not answered.
var errCut = errors.New("no answer")

// stage is how far a member is.
type stage int

const (
	off     stage = iota // it does not run
	joining              // it has not joined yet
	joined
	leaving // it stops
)

// member is a member's program, as far as the group is concerned. Its steps are those of internal/member.
type member struct {
	w       *world
	index   int // among the members
	id      string
	life    int
	version string
	weight  int
	older   bool          // it knows Schema 1 only
	clock   time.Duration // how much its wall clock is ahead
	kv      clientv3.KV
	leases  clientv3.Lease

	stage      stage
	paused     bool     // nothing in its process runs
	late       []func() // what was due meanwhile
	cut        bool     // its network fails
	cuts       int      // how often it has failed
	broken     bool     // it cannot work
	full       bool
	lease      int64 // of its key
	reg        *membership.Registration
	joinsAt    time.Duration
	waits      time.Duration // until when it waits for the coordinator; 0: it does not
	back       time.Duration // until when it stays away, because of short lives
	lives      int64         // the lease of the count of its lives
	goes       bool          // it is about to stop
	rejoin     time.Duration // what it stops with
	seen       int           // how many views it has seen, or passed over
	looks      bool          // it is about to look at a view
	view       *membership.View
	works      bool // it is about to begin and end what it handles
	reports    bool // it is about to say what its shards weigh
	said       string
	doubted    time.Duration // until when etcd may have something older all the same
	retries    bool
	declined   bool  // it has said that it is full
	declinedAt int64 // the revision at which it has said last what it declines
	publishes  bool  // a turn of its publisher is in progress

	office
}

// member returns the member with that number, which may not have started yet.
func (w *world) member(i int) *member {
	for len(w.members) <= i {
		n := len(w.members)
		m := &member{w: w, index: n, id: fmt.Sprintf("m%02d", n), weight: 1, version: fmt.Sprint(1)}
		if w.Rand.IntN(100) < w.plan.Weighty {
			m.weight = 1 + w.Rand.IntN(3)
		}
		m.older = w.Rand.IntN(100) < w.plan.Older
		m.clock = time.Duration(w.Rand.IntN(w.plan.Clocks+1)) * time.Second
		m.kv = clientv3.NewKVFromKVClient(line{s: w.store, m: m}, nil)
		m.leases = clientv3.NewLeaseFromLeaseClient(lessor{s: w.store, m: m}, nil, time.Second)
		w.members = append(w.members, m)
	}
	return w.members[i]
}

func (m *member) registrar() *membership.Registrar {
	return &membership.Registrar{Client: m.kv, Group: m.w.group, ID: m.id, Timeout: time.Minute}
}

// launch makes the member's process begin.
func (m *member) launch() {
	if m.w.procs != nil {
		m.w.procs.Start(m.index)
		return
	}
	m.begin()
}

// setRegistration sets the registration that the views are read for; nil: the member is not registered.
func (m *member) setRegistration(reg *membership.Registration) {
	m.reg = reg
	if m.w.procs != nil {
		m.w.procs.See(m.index)
	}
}

func (m *member) cutOff() bool { return m.cut || m.stage == off }

func (m *member) wall() time.Time { return start.Add(m.w.Now + m.clock) }

// in calls f after some time, if this life of the member has not ended by then.
func (m *member) in(d time.Duration, f func()) { m.w.in(d, m, f) }

// overlooks says whether a key is an order of a weight, which a program of Schema 1 knows nothing of.
func (m *member) overlooks(key []byte) bool {
	return strings.HasPrefix(string(key), m.w.layout.Weights())
}

// send sends a transaction, which may get lost.
func (m *member) send(t *pb.TxnRequest) (*pb.TxnResponse, error) {
	w := m.w
	if m.cutOff() {
		return nil, errCut
	}
	if m.older {
		t.Compare = slices.DeleteFunc(t.Compare, func(c *pb.Compare) bool { return m.overlooks(c.Key) })
		for _, op := range t.Success {
			if put := op.GetRequestPut(); put != nil && string(put.Key) == w.layout.Member(m.id) {
				put.Value = withoutSchema(put.Value)
			}
		}
	}
	fate := 0
	switch {
	case w.procs != nil && !w.procs.Hears(m.index):
		fate = 2
	case m.publishes && w.Chance(w.plan.Cuts):
		fate = 1 + w.Rand.IntN(6)
	case w.Chance(w.plan.Lossy):
		fate = 1 + w.Rand.IntN(3)
	}
	switch fate {
	case 1:
		w.count(Lost)
		return nil, errCut
	case 2:
		w.count(Unanswered)
		_, _ = w.store.txn(m, t)
		return nil, errCut
	case 3:
		w.count(Delayed)
		publishes, then := m.publishes, m.office
		w.after(w.UpTo(3*time.Second), func() {
			was, now := m.publishes, m.office
			m.publishes, m.office, w.judge.late = publishes, then, true
			_, _ = w.store.txn(m, t)
			m.publishes, m.office, w.judge.late = was, now, false
		})
		return nil, errCut
	case 4:
		w.count(CutBefore)
		m.die(w.UpTo(20 * time.Second))
		return nil, errCut
	case 5:
		w.count(CutAfter)
		_, _ = w.store.txn(m, t)
		m.die(w.UpTo(20 * time.Second))
		return nil, errCut
	case 6:
		w.count(CutBetween)
		w.interlude(m)
		if m.cutOff() {
			return nil, errCut
		}
	}
	return w.store.txn(m, t)
}

// noteView makes the member look at the last view some time, unless it is about to look already.
func (m *member) noteView() {
	if m.looks || m.stage == off {
		return
	}
	m.looks = true
	m.in(m.w.lag(), m.look)
}

// look shows the member a view: mostly the last one, and sometimes one before.
func (m *member) look() {
	w := m.w
	if w.procs != nil && !w.procs.Sees(m.index) {
		m.in(50*time.Millisecond, m.look)
		return
	}
	m.looks = false
	if m.cut {
		return
	}
	newest := len(w.views)
	if m.seen == newest {
		return
	}
	if m.seen > 0 && w.Chance(20) {
		m.seen++
	} else {
		m.seen = newest
	}
	if m.seen < newest {
		m.noteView()
	}
	m.view = w.views[m.seen-1]
	if w.procs != nil {
		w.procs.See(m.index)
	}
	m.heed()
	m.stirWork()
	m.stirReport()
}

// again makes the member heed its view once more, because a request has failed.
func (m *member) again() {
	if m.retries {
		return
	}
	m.retries = true
	m.in(retry, func() {
		m.retries = false
		m.heed()
	})
}

// heed does what follows from the last view that the member has seen.
func (m *member) heed() {
	if m.cut || m.reg == nil || m.view == nil || m.view.Revision < m.reg.CreateRevision {
		return
	}
	switch m.stage {
	case joining:
		m.join()
	case joined:
		m.stay()
	}
}
