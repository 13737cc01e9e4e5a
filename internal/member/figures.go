package member

import (
	"context"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/membership"
)

const (
	// figuresRest is how long nothing must have changed for the figures to be written before the next interval, so that
	// they are up to date soon after a drain, for example.
	figuresRest = 200 * time.Millisecond
	// figuresAhead is how many times in a row they may be written early. Each interval that passes adds one more time.
	figuresAhead = 3
	// figuresView is how long a new view alone waits to be written: a group of a thousand members must not write a
	// thousand keys for each change of a group that changes all the time.
	figuresView = time.Minute
	// figuresDoubt is for how long after a write that was not answered the figures are written at each interval even if
	// they are the same: etcd may carry that write out late, over newer figures.
	figuresDoubt = time.Minute
)

// figures writes a member's own figures to etcd. Any goroutine may call stir and work, once prepare has returned;
// everything else is for the goroutine of the place.
type figures struct {
	now     func() time.Duration
	wall    func() time.Time       // what people are shown
	count   func() (counted, bool) // asks the loop for the figures; false if the loop has ended
	kv      clientv3.KV
	key     string        // of the figures
	loads   string        // the key of the loads
	timeout time.Duration // of each request
	log     *zap.Logger

	was     []byte        // the figures that etcd has, but for the view; nil if it has none
	view    int64         // the view that these say
	viewDue time.Duration // from when on another view alone is a reason to write
	weighed []byte        // the loads that etcd has, but for the view; nil if it has none

	stuckSince, budgetSince time.Time // since when the figures count some; zero if they count none

	doubted time.Duration // until when etcd may have older ones all the same
	ahead   int           // how many more times they may be written before the interval
	planned bool          // the timer runs
	timer   *time.Timer   // fires when look must be called
	stirred chan struct{} // holds a token when something may have changed
	at      atomic.Int64  // the time of the last call of stir

	interval time.Duration
	worked   atomic.Bool   // the loop has done something since the last tick
	woken    chan struct{} // holds a token when worked was set
	ticks    *time.Timer   // fires when tick must be called
	ticking  bool          // it is set
	tickAt   time.Duration // for when
}

// counted is what a member counts of itself: figures for people, and the loads of its shards for the coordinator.
type counted struct {
	claims.Figures
	loads claims.Loads
}

// prepare makes figures ready for use, once their dependencies are set.
func (f *figures) prepare() *figures {
	f.ahead, f.timer, f.stirred = figuresAhead, pace.Stopped(), make(chan struct{}, 1)
	f.ticks, f.woken = pace.Stopped(), make(chan struct{}, 1)
	return f
}

// close ends the timers.
func (f *figures) close() {
	f.timer.Stop()
	f.ticks.Stop()
}

// work notes that the loop has done something. While nothing happens, the member need not wake up to count what it has.
func (f *figures) work() {
	if f.worked.Load() || !f.worked.CompareAndSwap(false, true) {
		return
	}
	select {
	case f.woken <- struct{}{}:
	default:
	}
}

// resume sets the timer for tick, if it is not set to an earlier time.
func (f *figures) resume() { f.resumeIn(f.interval) }

func (f *figures) resumeIn(d time.Duration) {
	if at := f.now() + d; !f.ticking || at < f.tickAt {
		f.ticking, f.tickAt = true, at
		f.ticks.Reset(d)
	}
}

// stir notes that the figures may have changed. now may be a little old: the loop calls stir for each batch, and if
// stir read the clock itself, that would take a fifth of the loop's time.
func (f *figures) stir(now time.Duration) {
	f.at.Store(int64(now))
	select {
	case f.stirred <- struct{}{}:
	default:
	}
}

// plan sets the timer for look, if the figures may be written early.
func (f *figures) plan() {
	if !f.planned && f.ahead > 0 {
		f.planned = true
		f.timer.Reset(figuresRest)
	}
}

// look writes the figures if the member has come to rest, and plans another look otherwise. It does not count them
// before, since counting a million claims takes a while. It returns what it counted; ok is false if it did not count.
func (f *figures) look(ctx context.Context, reg *membership.Registration) (now counted, ok bool) {
	f.planned = false
	if f.now()-time.Duration(f.at.Load()) < figuresRest {
		f.plan()
		return counted{}, false
	}
	now, ok, wrote := f.write(ctx, reg, false)
	if wrote {
		f.ahead--
	}
	return now, ok
}

// tick writes the figures at an interval, whether or not the member has come to rest. It returns what look returns. The
// next interval begins as soon as something happens, or at once if there is more to look after.
func (f *figures) tick(ctx context.Context, reg *membership.Registration) (now counted, ok bool) {
	f.ahead = min(f.ahead+1, figuresAhead)
	f.ticking = false
	f.worked.Store(false)
	now, ok, _ = f.write(ctx, reg, true)
	switch {
	case !ok || now.Failed > 0 || f.doubted > f.now() || f.worked.Load():
		f.resume()
	case now.View != f.view:
		f.resumeIn(max(f.viewDue-f.now(), f.interval))
	}
	return now, ok
}

// forget notes that etcd has no figures of this member any more.
func (f *figures) forget() {
	f.was, f.weighed = nil, nil
	f.resume()
}

// write counts, and writes the figures and the loads, as far as they have changed; with late, it may write them because
// of the view alone. It returns what it counted, whether it did, and whether it wrote.
func (f *figures) write(ctx context.Context, reg *membership.Registration, late bool) (now counted, ok, wrote bool) {
	if reg == nil {
		return counted{}, false, false
	}
	if now, ok = f.count(); !ok {
		return now, false, false
	}
	f.stuckSince = since(f.stuckSince, now.Stuck, f.wall)
	f.budgetSince = since(f.budgetSince, now.WaitingForBudget, f.wall)
	now.StuckSince, now.BudgetSince = f.stuckSince, f.budgetSince
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	put := func(key string, says []byte, was *[]byte, anyway bool, value func() []byte) (done bool) {
		if string(says) == string(*was) && f.now() >= f.doubted && !anyway {
			return false
		}
		if _, err := f.kv.Put(ctx, key, string(value()), clientv3.WithLease(reg.Lease)); err != nil {
			f.doubted = f.now() + figuresDoubt
			f.log.Debug("cannot write figures", zap.String("key", key), zap.Error(err))
			return false
		}
		*was, wrote = says, true
		return true
	}
	loads := now.loads
	loads.Seen = 0 // a new view alone is no reason to write
	news := late && now.View != f.view && f.now() >= f.viewDue
	if put(f.key, now.WithoutView().Encode(), &f.was, news, now.Encode) {
		f.view, f.viewDue = now.View, f.now()+figuresView
	}
	put(f.loads, loads.Encode(), &f.weighed, false, now.loads.Encode)
	return now, true, wrote
}

// since returns since when something has been counted without a break: what it was before, or now.
func since(before time.Time, count int, now func() time.Time) time.Time {
	switch {
	case count == 0:
		return time.Time{}
	case before.IsZero():
		return now().UTC().Truncate(time.Millisecond)
	default:
		return before
	}
}
