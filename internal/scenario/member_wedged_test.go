package scenario_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// lastStand is a Handler for members that cannot call Terminate in time. It counts a handling as over when its context
// has ended, and tells that apart from one that was terminated.
type lastStand struct {
	*recorder // only its until is used
	mu        sync.Mutex
	// open has the contexts that Handle was given, by member and resource, until Terminate has returned.
	open map[[2]string]context.Context
}

func newLastStand(tb testing.TB) *lastStand {
	return &lastStand{recorder: newRecorder(tb), open: map[[2]string]context.Context{}}
}

func (l *lastStand) Handle(ctx context.Context, c drm.Claim) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, was := range l.open {
		switch {
		case key[1] != c.Resource.ID:
		case key[0] == c.Member:
			l.tb.Errorf("%s handles %s anew, and has not terminated it", c.Member, c.Resource.ID)
		case was.Err() == nil:
			l.tb.Errorf("%s handles %s while the context of %s goes on", c.Member, c.Resource.ID, key[0])
		}
	}
	l.open[[2]string{c.Member, c.Resource.ID}] = ctx
	return nil
}

func (l *lastStand) Terminate(_ context.Context, c drm.Claim) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, [2]string{c.Member, c.Resource.ID})
	return nil
}

// held counts the resources that a member handles, and those whose context has ended but which it has not terminated.
func (l *lastStand) held(member string) (live, ended int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, ctx := range l.open {
		switch {
		case key[0] != member:
		case ctx.Err() == nil:
			live++
		default:
			ended++
		}
	}
	return live, ended
}

// A member whose loop does nothing any more must stop sending keepalives. If it went on, nobody would ever handle what
// it has.
func TestAWedgedMemberIsTakenOver(t *testing.T) {
	t.Parallel()
	const n = 40
	w, l := newWorld(t), newLastStand(t)
	src, ms := newSource(ids(n)...), map[string]*drm.Manager{}
	for _, id := range []string{"a", "b"} {
		cfg := w.config(id, l)
		if id == "a" { // the only one whose leases are to end
			cfg.LeaseTTL = 3 * time.Second
		}
		cfg.AllocateOnly, cfg.Retriever = false, src
		ms[id] = w.start(cfg)
	}
	shared := func() bool {
		a, _ := l.held("a")
		b, _ := l.held("b")
		return a > 0 && b > 0 && a+b == n && settled(t, w)
	}
	l.until("they share all", shared)
	had, _ := l.held("a")

	release := sync.OnceFunc(w.probe(ms["a"]).Wedge())
	t.Cleanup(release) // else the member would not stop
	wedged := time.Now()
	l.until("the other has it all", func() bool { live, _ := l.held("b"); return live == n })
	t.Logf("taken over %v after it was wedged", time.Since(wedged).Round(time.Millisecond))
	if live, ended := l.held("a"); live != 0 || ended != had {
		t.Errorf("of the %d that it had, %d contexts go on and %d have ended, without a Terminate", had, live, ended)
	}

	release()
	l.until("it has terminated what it had, and they share again", func() bool {
		_, ended := l.held("a")
		return ended == 0 && shared()
	})
}

// The wall clock is shown to people. No decision depends on it.
func TestAWallClockThatIsSetByAYearChangesNothing(t *testing.T) {
	t.Parallel()
	const n, ttl, year = 20, 5 * time.Second, 365 * 24 * time.Hour
	w, r := newWorld(t), newRecorder(t)
	q := newRequests(w.app)
	var wrong atomic.Int64 // how far the wall clock is off
	w.options.Wall = func() time.Time { return time.Now().Add(time.Duration(wrong.Load())) }
	src := newSource(ids(n)...)
	for _, id := range []string{"a", "b"} {
		cfg := w.config(id, r)
		cfg.LeaseTTL, cfg.Etcd = ttl, drm.EtcdConfig{Client: q.client(t, w.endpoint), DialTimeout: patience}
		cfg.AllocateOnly, cfg.Retriever, cfg.PollInterval = false, src, 100*time.Millisecond
		w.start(cfg)
	}
	r.until("all are handled by two", func() bool { return len(r.holders()) == n && settled(t, w) })
	calls := len(r.all())
	for _, by := range []time.Duration{year, -year} {
		wrong.Store(int64(by))
		renewed, set := q.count(keepalives), time.Now()
		// There are at least four leases. Each is renewed every fifth of the TTL.
		r.until("all leases were renewed for longer than they live", func() bool {
			return q.count(keepalives)-renewed >= 4*6 && time.Since(set) > ttl
		})
		if news := r.all()[calls:]; len(news) > 0 {
			t.Errorf("set by %v: %v", by, news)
		}
	}
	src.set(resources(append(ids(n), "new")...), nil)
	r.until("they work as before", func() bool { return len(r.holders()) == n+1 && settled(t, w) })
	if news := r.all()[calls:]; len(news) != 1 {
		t.Errorf("calls: %v; want that for the new one alone", news)
	}
}
