package follow_test

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// mirror is a Sink that keeps what it is given, and checks it.
type mirror struct {
	prefix   string
	patience time.Duration
	news     chan struct{} // holds a token when something has changed

	mu       sync.Mutex
	state    map[string]string // key → value
	revision int64
	resets   int
	applies  [][]*clientv3.Event
	history  map[int64]map[string]string // the state at each revision that was reported
	faults   []string
}

func newMirror(prefix string) *mirror {
	return &mirror{
		prefix: prefix, patience: time.Minute, news: make(chan struct{}, 1),
		history: map[int64]map[string]string{},
	}
}

func (m *mirror) Reset(kvs []*mvccpb.KeyValue, revision int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if revision < m.revision {
		m.fault("Reset at revision %d after %d", revision, m.revision)
	}
	m.resets++
	m.state = map[string]string{}
	for _, kv := range kvs {
		m.state[string(kv.Key)] = string(kv.Value)
	}
	m.told(revision)
}

func (m *mirror) Apply(events []*clientv3.Event, revision int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.resets == 0 {
		m.fault("Apply before Reset")
	}
	if len(events) == 0 {
		m.fault("Apply of nothing")
		return
	}
	last := m.revision
	for i, ev := range events {
		if ev.Kv.ModRevision < last || i == 0 && ev.Kv.ModRevision == last {
			m.fault("an event of revision %d after %d", ev.Kv.ModRevision, last)
		}
		last = ev.Kv.ModRevision
		if ev.Type == clientv3.EventTypeDelete {
			delete(m.state, string(ev.Kv.Key))
		} else {
			m.state[string(ev.Kv.Key)] = string(ev.Kv.Value)
		}
	}
	if revision != last {
		m.fault("Apply says revision %d, its last event %d", revision, last)
	}
	m.applies = append(m.applies, events)
	m.told(revision)
}

func (m *mirror) told(revision int64) {
	m.revision = revision
	m.history[revision] = maps.Clone(m.state)
	select {
	case m.news <- struct{}{}:
	default:
	}
}

func (m *mirror) fault(format string, args ...any) {
	m.faults = append(m.faults, fmt.Sprintf(format, args...))
}

// until waits until ok holds, and fails if it takes too long.
func (m *mirror) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(m.patience)
	for {
		m.mu.Lock()
		holds := ok()
		state := fmt.Sprintf("at revision %d, after %d resets: %.300v", m.revision, m.resets, m.state)
		m.mu.Unlock()
		if holds {
			return
		}
		select {
		case <-m.news:
		case <-deadline:
			t.Fatalf("waited in vain for %s; %s", what, state)
		}
	}
}

// has waits until a key has a value.
func (m *mirror) has(t *testing.T, key, value string) {
	t.Helper()
	m.until(t, key+" = "+value, func() bool { return m.state[key] == value })
}

// judge waits until the mirror shows what etcd has now, and checks each state that it has ever shown.
func (m *mirror) judge(t *testing.T) {
	t.Helper()
	now := stateAt(t, m.prefix, 0)
	m.until(t, "etcd's last state", func() bool { return maps.Equal(m.state, now) })
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.faults {
		t.Error(f)
	}
	for revision, state := range m.history {
		if want := stateAt(t, m.prefix, revision); !maps.Equal(state, want) {
			t.Fatalf("at revision %d it showed %v, but it was %v", revision, state, want)
		}
	}
}

// stateAt is what etcd has, or had, below a prefix at a revision.
func stateAt(t *testing.T, prefix string, revision int64) map[string]string {
	t.Helper()
	resp, err := client.Get(context.Background(), prefix, clientv3.WithPrefix(), clientv3.WithRev(revision))
	if err != nil {
		t.Fatal(err)
	}
	state := map[string]string{}
	for _, kv := range resp.Kvs {
		state[string(kv.Key)] = string(kv.Value)
	}
	return state
}
