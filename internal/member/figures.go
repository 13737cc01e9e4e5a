package member

import (
	"context"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/membership"
)

const (
	// figuresRest is how long nothing must have changed before figures are written earlier than at the next interval:
	// whoever looks after a drain, say, is to find what is so.
	figuresRest = 200 * time.Millisecond
	// figuresAhead is how many times in a row they may be written early; one more time for each interval that passes.
	figuresAhead = 3
)

// figures writes a member's own figures. Any goroutine may call stir; everything else is for the goroutine of the
// place.
type figures struct {
	now     func() time.Duration
	count   func() (claims.Figures, bool) // asks the loop; false where that has ended
	kv      clientv3.KV
	key     string
	timeout time.Duration // of each request
	log     *zap.Logger

	was     []byte        // what etcd has; nil where it has none
	ahead   int           // how many times they may be written without waiting for the interval
	planned bool          // the timer runs
	timer   *time.Timer   // when to look whether the member has come to rest
	stirred chan struct{} // holds a token when something may have changed
	at      atomic.Int64  // when that was last, by now
}

// prepare makes figures ready for use, once their dependencies are set.
func (f *figures) prepare() *figures {
	f.ahead, f.timer, f.stirred = figuresAhead, time.NewTimer(time.Hour), make(chan struct{}, 1)
	return f
}

// stir notes that the figures may have changed.
func (f *figures) stir() {
	f.at.Store(int64(f.now()))
	select {
	case f.stirred <- struct{}{}:
	default:
	}
}

// plan makes look be called once the member has come to rest, perhaps.
func (f *figures) plan() {
	if !f.planned && f.ahead > 0 {
		f.planned = true
		f.timer.Reset(figuresRest)
	}
}

// look writes the figures if the member has come to rest. To count a million claims takes a while, so they are not
// counted before.
func (f *figures) look(ctx context.Context, reg *membership.Registration) {
	f.planned = false
	if f.now()-time.Duration(f.at.Load()) < figuresRest {
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

// forget notes that etcd has no figures of this member any more.
func (f *figures) forget() { f.was = nil }

// write writes the figures if they have changed, and reports whether it did.
func (f *figures) write(ctx context.Context, reg *membership.Registration) bool {
	if reg == nil {
		return false
	}
	counted, ok := f.count()
	if !ok {
		return false
	}
	b := counted.Encode()
	if string(b) == string(f.was) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	if _, err := f.kv.Put(ctx, f.key, string(b), clientv3.WithLease(reg.Lease)); err != nil {
		f.log.Debug("cannot write figures", zap.Error(err))
		return false
	}
	f.was = b
	return true
}
