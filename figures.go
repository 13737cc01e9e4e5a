package drm

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/membership"
)

const (
	// figuresRest is how long nothing must have changed before figures are written earlier than that: whoever looks after a drain,
	// say, is to find what is so.
	figuresRest = 200 * time.Millisecond
	// figuresAhead is how many times in a row they may be; one more for each Manager.statsInterval.
	figuresAhead = 3
)

// figures writes a member's own figures. stir is for anyone; all else is for run's goroutine of the group.
type figures struct {
	m       *Manager
	was     []byte        // what etcd has; nil where it has none
	ahead   int           // how many times they may be written without waiting for the interval
	planned bool          // the timer runs
	timer   *time.Timer   // when to look whether the member has come to rest
	stirred chan struct{} // holds a token when something may have changed
	at      atomic.Int64  // when that was last, by m.now
}

func newFigures(m *Manager) *figures {
	return &figures{m: m, ahead: figuresAhead, timer: time.NewTimer(time.Hour), stirred: make(chan struct{}, 1)}
}

// stir notes that the figures may be others now.
func (f *figures) stir() {
	f.at.Store(int64(f.m.now()))
	select {
	case f.stirred <- struct{}{}:
	default:
	}
}

// plan has look called once the member has come to rest, perhaps.
func (f *figures) plan() {
	if !f.planned && f.ahead > 0 {
		f.planned = true
		f.timer.Reset(figuresRest)
	}
}

// look writes the figures if the member has come to rest. To count a million claims takes a while, so they are not counted before.
func (f *figures) look(ctx context.Context, reg *membership.Registration) {
	f.planned = false
	if f.m.now()-time.Duration(f.at.Load()) < figuresRest {
		f.plan()
		return
	}
	if f.write(ctx, reg) {
		f.ahead--
	}
}

// tick writes the figures whether or not the member rests.
func (f *figures) tick(ctx context.Context, reg *membership.Registration) {
	f.ahead = min(f.ahead+1, figuresAhead)
	f.write(ctx, reg)
}

// forget notes that etcd has none any more.
func (f *figures) forget() { f.was = nil }

// write writes the figures if they changed, and reports whether it did.
func (f *figures) write(ctx context.Context, reg *membership.Registration) bool {
	if reg == nil {
		return false
	}
	m := f.m
	var s claims.Figures
	if !m.ask(func() {
		n := m.core.Stats()
		s = claims.Figures{Shards: n.Shards, Claims: n.Claims, Active: n.Active, Failed: n.Failed, Calls: n.Calls, Stuck: n.Stuck, Waiting: n.Waiting}
	}) {
		return false
	}
	b := s.Encode()
	if string(b) == string(f.was) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Etcd.CommandTimeout)
	defer cancel()
	if _, err := m.kv.Put(ctx, m.layout.Stats(m.id), string(b), clientv3.WithLease(reg.Lease)); err != nil {
		m.log.Debug("cannot write stats", zap.Error(err))
		return false
	}
	f.was = b
	return true
}
