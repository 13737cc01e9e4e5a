package groupsim

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
)

// stirWork makes the member begin what it owns and end what it does not own, after a moment.
func (m *member) stirWork() {
	if m.works || m.stage == off {
		return
	}
	m.works = true
	m.in(20*time.Millisecond+m.w.UpTo(600*time.Millisecond), m.work)
}

func (m *member) work() {
	m.works = false
	if m.cut || m.view == nil || m.reg == nil {
		return
	}
	w := m.w
	for n, h := range w.holders {
		owns := m.stage == joined && m.view.Owner(n) == m.id
		lives := w.store.leases[m.lease] != nil // otherwise no claim of it would be taken
		switch {
		case h.m == m && !owns:
			w.holders[n] = holder{}
			for _, other := range w.members {
				if other != m && other.view != nil && other.view.Owner(n) == other.id {
					other.stirWork()
				}
			}
		case h.m == nil && owns && lives:
			w.holders[n] = holder{m, m.life}
			w.judge.handled(n, m)
		}
	}
	m.stirReport()
}

// stirReport makes the member say what its shards weigh, after a moment.
func (m *member) stirReport() {
	if m.reports || m.stage != joined || m.older {
		return
	}
	m.reports = true
	m.in(200*time.Millisecond+m.w.UpTo(1500*time.Millisecond), m.report)
}

func (m *member) report() {
	m.reports = false
	if m.cut || m.stage != joined || m.reg == nil || m.view == nil {
		return
	}
	loads := claims.Loads{Shards: map[int]int64{}}
	for n, load := range m.w.load {
		if m.view.Owner(n) != m.id || load == 0 {
			continue
		}
		loads.Shards[n] = load
		if m.w.holders[n].m != m {
			loads.Pending += load
		}
	}
	value := string(loads.Encode())
	if m.w.Now < m.doubted {
		m.in(2*time.Second, m.stirReport)
	} else if value == m.said {
		return
	}
	loads.Seen = m.view.Revision // which alone is no reason to say it again
	_, err := m.kv.Put(context.Background(), m.w.layout.Load(m.id), string(loads.Encode()),
		clientv3.WithLease(m.reg.Lease))
	if err != nil { // it may be carried out late, over a later one
		m.doubted = m.w.Now + 10*time.Second
		m.stirReport()
		return
	}
	m.said = value
}
