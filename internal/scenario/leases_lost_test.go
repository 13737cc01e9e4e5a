package scenario_test

import (
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
)

// An etcd whose leader stalled may revoke every lease. All members then have to begin anew at the same moment. That
// must not take more requests than necessary, and they must not all come at the same moment.
func TestLosingAllLeasesAtOnceMakesNoStorm(t *testing.T) {
	const members, resources = 5, 30
	w, r := newWorld(t), newRecorder(t) // the recorder fails the test if two members handle a resource at once
	logs, qs, granted := map[string]*observer.ObservedLogs{}, map[string]*requests{}, newMoments()
	count := func(kinds ...kind) (n int) {
		for _, q := range qs {
			n += q.count(kinds...)
		}
		return n
	}
	src := newSource(ids(resources)...)
	for _, id := range []string{"a", "b", "c", "d", "e"}[:members] {
		q := newRequests(w.app)
		q.spoil = func(k kind, _, _ int) fault {
			if k == grants {
				granted.note(id)
			}
			return noFault
		}
		cfg := w.config(id, r)
		var seen zapcore.Core
		seen, logs[id] = observer.New(zap.InfoLevel)
		cfg.Logger, qs[id] = zap.New(zapcore.NewTee(seen, cfg.Logger.Core())), q
		cfg.Etcd = drm.EtcdConfig{Client: q.client(t, w.endpoint), DialTimeout: patience}
		cfg.AllocateOnly, cfg.Retriever, cfg.CacheResources = false, src, true
		w.start(cfg)
	}
	r.until("all are handled", func() bool { return len(r.holders()) == resources && settled(t, w) })
	mark, before, fault := len(r.all()), count(grants, registers, stands), time.Now()
	leases, err := w.etcd.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leases.Leases {
		if _, err := w.etcd.Revoke(t.Context(), l.ID); err != nil {
			t.Fatal(err)
		}
	}
	r.until("all were terminated, and are handled again", func() bool {
		ended := map[string]bool{}
		for _, c := range r.all()[mark:] {
			if c.Action == "terminate" {
				ended[c.Resource] = true
			}
		}
		back, err := w.client().Members(t.Context()) // the first member that is back may have everything for a moment
		return len(ended) == resources && len(r.holders()) == resources && err == nil && len(back) == members &&
			settled(t, w)
	})
	// Each member needs two leases and a registration, and some more requests where others were faster.
	if n := count(grants, registers, stands) - before; n > 12*members {
		t.Errorf("%d requests of %d members to begin anew", n, members)
	}
	pauses := map[time.Duration]bool{}
	for id, log := range logs {
		earliest := time.Time{}
		for _, e := range logged(t, log, "a lease is gone", 1) {
			pause := e.ContextMap()["pause"].(time.Duration)
			pauses[pause] = true
			if end := e.Time.Add(pause); earliest.IsZero() || end.Before(earliest) {
				earliest = end
			}
		}
		first := granted.firstAfter(id, fault)
		if earliest.IsZero() || first.Before(earliest) {
			t.Errorf("%s asked for a lease after %v, and was to do so after %v at least", id, first.Sub(fault),
				earliest.Sub(fault))
		}
	}
	if len(pauses) < members { // counted in nanoseconds, no two pauses are likely to be equal
		t.Errorf("the pauses are %v: want those of %d members at random", slices.Collect(maps.Keys(pauses)), members)
	}
}

// moments notes when members did something.
type moments struct {
	mu sync.Mutex
	of map[string][]time.Time
}

func newMoments() *moments { return &moments{of: map[string][]time.Time{}} }

func (m *moments) note(member string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of[member] = append(m.of[member], time.Now())
}

// firstAfter returns the first moment of a member after from, and zero where there is none.
func (m *moments) firstAfter(member string, from time.Time) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, at := range m.of[member] {
		if at.After(from) {
			return at
		}
	}
	return time.Time{}
}
