package scenario_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
)

// doubted is a group whose source loses what it had.
type doubted struct {
	*world
	r      *recorder
	src    *source
	logs   *observer.ObservedLogs
	change func(*drm.Config)
}

func newDoubted(t *testing.T, resources int, change func(*drm.Config)) *doubted {
	t.Helper()
	d := &doubted{world: newWorld(t), r: newRecorder(t), src: newSource(ids(resources)...), change: change}
	return d
}

func (d *doubted) join(id string) *drm.Manager {
	d.tb.Helper()
	core, logs := observer.New(zap.InfoLevel)
	d.logs = logs
	cfg := d.config(id, d.r)
	cfg.AllocateOnly, cfg.Retriever = false, d.src
	cfg.RemovalDelay = time.Hour
	cfg.Logger = zap.New(core)
	d.change(&cfg)
	return d.start(cfg)
}

func (d *doubted) status() drm.SourceStatus {
	d.tb.Helper()
	s, err := d.client().Source(d.tb.Context())
	if err != nil {
		d.tb.Fatal(err)
	}
	return s
}

func (d *doubted) untilHeld(n int) {
	d.tb.Helper()
	await(d.tb, "the removals are held", func() bool { return d.status().Held == n })
}

// patient returns a context that lasts long enough even for a slow machine.
func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// untilAsked waits until the source has been asked times times since it had been asked since times.
func (d *doubted) untilAsked(since int, times int) {
	d.tb.Helper()
	await(d.tb, "the source was asked", func() bool { _, n, _ := d.src.counts(); return n >= since+times })
}

func (d *doubted) asked() int { _, n, _ := d.src.counts(); return n }

// A source of a thousand resources is polled every ten minutes. For a moment, while members join, its answer is [].
func TestAnEmptyAnswerWhileMembersJoinRemovesNothing(t *testing.T) {
	t.Parallel()
	d := newDoubted(t, 100, func(c *drm.Config) { c.PollInterval, c.RemovalDelay = 10*time.Minute, time.Millisecond })
	d.join("a")
	d.r.until("all are handled", allHeld(d.r, 100))
	before := d.asked()
	d.src.set(nil, nil)
	d.join("b")
	d.untilAsked(before, 1)
	d.untilHeld(100)
	d.join("c")
	d.untilAsked(before, 2)
	m := d.join("d")
	d.untilAsked(before, 3)
	if s := d.status(); s.Held != 100 || s.HeldSince.IsZero() || s.HeldUntil.Sub(s.HeldSince) != 10*time.Minute ||
		len(s.HeldIDs) != 100 {
		t.Errorf("status: %+v", s)
	}
	d.src.set(resources(ids(100)...), nil)
	m.Refetch() // does nothing, since m does not coordinate
	d.join("e")
	d.untilHeld(0)
	if s, err := d.client().Status(t.Context()); err != nil || s.Resources != 100 {
		t.Errorf("status: %+v, %v", s, err)
	}
}

func TestARemovalInBulkIsMadeByAnAnswerAfterTheDelay(t *testing.T) {
	t.Parallel()
	for name, poll := range map[string]time.Duration{"polled": 100 * time.Millisecond, "not polled": 0} {
		t.Run(name, func(t *testing.T) {
			d := newDoubted(t, 20, func(c *drm.Config) { c.PollInterval, c.RemovalDelay = poll, 500*time.Millisecond })
			m := d.join("a")
			d.r.until("all are handled", allHeld(d.r, 20))
			before := d.asked()
			d.src.set(resources(ids(10)...), nil)
			m.Refetch()
			began := time.Now()
			d.r.until("what the source lacks is not handled", allHeld(d.r, 10))
			if took := time.Since(began); took < 500*time.Millisecond {
				t.Errorf("it was removed after %v", took)
			}
			if n := d.asked() - before; poll == 0 && n != 2 {
				t.Errorf("the source was asked %d times, want twice", n)
			}
			d.untilHeld(0)
			for _, message := range []string{"nothing is removed until another answer", "removed many resources"} {
				if lines := logged(t, d.logs, message, 1); len(lines) != 1 || lines[0].Level != zap.WarnLevel {
					t.Errorf("want one warning that %s: %v", message, lines)
				}
			}
		})
	}
}

// A new coordinator that finds the same removals neither confirms them early nor counts from the beginning.
func TestANewCoordinatorTakesOverForHowLongRemovalsWereHeld(t *testing.T) {
	t.Parallel()
	d := newDoubted(t, 20, func(c *drm.Config) { c.CacheResources = true })
	a := d.join("a")
	d.r.until("all are handled", allHeld(d.r, 20))
	d.join("b")
	d.src.set(nil, nil)
	a.Refetch()
	d.untilHeld(20)
	was := d.status()
	await(t, "a while has passed", func() bool { return time.Since(was.HeldSince) > 300*time.Millisecond })
	before, stopping := d.asked(), time.Now()
	d.stop(a)
	d.untilAsked(before, 1)
	await(t, "its answer was dealt with", func() bool { return d.status().LastAttempt.After(was.LastAttempt) })
	s := d.status()
	if s.Held != 20 || s.HeldDigest != was.HeldDigest || !s.HeldSince.Before(stopping) ||
		!s.HeldUntil.Before(stopping.Add(time.Hour)) {
		t.Errorf("before: %+v\nafterwards: %+v", was, s)
	}
	if entries, err := d.client().Resources(t.Context()); err != nil || len(entries) != 20 {
		t.Errorf("%d are left, %v", len(entries), err)
	}
}

func TestRemovalsThatAreHeldForGoodAreMadeWhenAccepted(t *testing.T) {
	t.Parallel()
	d := newDoubted(t, 200, func(c *drm.Config) {
		c.PollInterval, c.RemovalDelay, c.RemovalPolicy = 100*time.Millisecond, time.Millisecond, drm.HoldRemovals
	})
	d.join("a")
	c := d.client()
	d.r.until("all are handled", allHeld(d.r, 200))
	before := d.asked()
	d.src.set(resources("r0"), nil)
	d.untilAsked(before, 5)
	d.untilHeld(199)
	s := d.status()
	if len(s.HeldIDs) != 100 || !slices.IsSorted(s.HeldIDs) || !s.HeldUntil.IsZero() || len(d.r.holders()) != 200 {
		t.Errorf("status: %+v", s)
	}
	lines := logged(t, d.logs, "until an operator accepts it", 1)
	if len(lines) != 1 || lines[0].Level != zap.WarnLevel {
		t.Errorf("want one warning that removals are held: %v", lines)
	}
	order, err := c.AcceptRemovals(t.Context(), s.HeldDigest)
	if err != nil {
		t.Fatal(err)
	}
	removed, err := c.WaitAccepted(patient(t), order)
	if err != nil || removed != 199 {
		t.Errorf("accepted: %d, %v", removed, err)
	}
	if s := d.status(); s.Held != 0 || s.HeldDigest != "" || s.LastChange.Removed != 199 {
		t.Errorf("status: %+v", s)
	}
	d.r.until("what the source lacks is not handled", allHeld(d.r, 1))
	d.noOrders(t)

	// The order was no permission for other removals.
	d.src.set(resources(ids(40)...), nil)
	d.r.until("all are handled", allHeld(d.r, 40))
	d.src.set(nil, nil)
	d.untilHeld(40)
	order, err = c.AcceptRemovals(t.Context(), s.HeldDigest)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.WaitAccepted(patient(t), order); !errors.Is(err, drm.ErrNotAccepted) {
		t.Errorf("accepted what was held before: %v", err)
	}
	if len(d.r.holders()) != 40 {
		t.Errorf("%d are handled", len(d.r.holders()))
	}
	d.noOrders(t)
}

// noOrders waits until no order is left in etcd, and verify finds nothing wrong.
func (d *doubted) noOrders(t *testing.T) {
	t.Helper()
	await(t, "no order is left", func() bool {
		resp, err := d.etcd.Get(t.Context(), appLayout.Orders(), clientv3.WithPrefix())
		return err == nil && len(resp.Kvs) == 0
	})
	if found, err := d.client().VerifySettled(t.Context(), time.Minute); err != nil || len(found) != 0 {
		t.Errorf("verify: %v, %v", found, err)
	}
}

// The order is given while nobody coordinates. The next coordinator knows nothing of what is held before it has asked
// the source.
func TestAnOrderIsCarriedOutByTheNextCoordinator(t *testing.T) {
	t.Parallel()
	d := newDoubted(t, 20, func(c *drm.Config) { c.CacheResources = true })
	a := d.join("a")
	d.r.until("all are handled", allHeld(d.r, 20))
	d.join("b")
	d.src.set(nil, nil)
	a.Refetch()
	d.untilHeld(20)
	asks := make(chan struct{})
	d.src.mu.Lock()
	d.src.onFetch = func(ctx context.Context) {
		select {
		case <-asks:
		case <-ctx.Done():
		}
	}
	d.src.mu.Unlock()
	d.stop(a)
	order, err := d.client().AcceptRemovals(t.Context(), d.status().HeldDigest)
	if err != nil {
		t.Fatal(err)
	}
	close(asks)
	if removed, err := d.client().WaitAccepted(patient(t), order); err != nil || removed != 20 {
		t.Errorf("accepted: %d, %v", removed, err)
	}
	d.r.until("nothing is handled", allHeld(d.r, 0))
}

// The coordinator knows what is held, so it does not need an answer of the source, which is down by now.
func TestAnOrderIsCarriedOutWhileTheSourceFails(t *testing.T) {
	t.Parallel()
	d := newDoubted(t, 20, func(c *drm.Config) { c.FetchRetryBudget = drm.Forever })
	m := d.join("a")
	d.r.until("all are handled", allHeld(d.r, 20))
	d.src.set(resources(ids(3)...), nil)
	m.Refetch()
	d.untilHeld(17)
	d.src.set(nil, errors.New("it is down"))
	m.Refetch()
	await(t, "the source has failed", func() bool { return d.status().Error != "" })
	order, err := d.client().AcceptRemovals(t.Context(), d.status().HeldDigest)
	if err != nil {
		t.Fatal(err)
	}
	if removed, err := d.client().WaitAccepted(patient(t), order); err != nil || removed != 17 {
		t.Errorf("accepted: %d, %v", removed, err)
	}
	if s := d.status(); s.Held != 0 || s.Error == "" {
		t.Errorf("status: %+v", s)
	}
}

func TestAnOperatorHasTheSourceAskedNow(t *testing.T) {
	t.Parallel()
	d := newDoubted(t, 3, func(*drm.Config) {})
	c := d.client()
	if _, err := c.RefetchSource(t.Context()); !errors.Is(err, drm.ErrNoApp) {
		t.Errorf("of no app: %v", err)
	}
	d.join("a")
	d.r.until("all are handled", allHeld(d.r, 3))
	d.src.set(resources(ids(4)...), nil)
	order, err := c.RefetchSource(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s, err := c.WaitRefetched(patient(t), order); err != nil || s.Resources != 4 {
		t.Errorf("asked: %+v, %v", s, err)
	}
	d.noOrders(t)

	d.src.set(nil, errors.New("it is down"))
	if order, err = c.RefetchSource(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.WaitRefetched(patient(t), order); !errors.Is(err, drm.ErrSourceFailed) ||
		!strings.Contains(err.Error(), "it is down") {
		t.Errorf("asked a source that is down: %v", err)
	}
}

func TestNobodyIsOrderedWhereThereIsNoSource(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.start(w.config("a", r))
	c := w.client()
	if _, err := c.RefetchSource(t.Context()); !errors.Is(err, drm.ErrNoSource) {
		t.Errorf("fetch: %v", err)
	}
	if _, err := c.AcceptRemovals(t.Context(), "x"); !errors.Is(err, drm.ErrNoSource) {
		t.Errorf("accept: %v", err)
	}
	var input *drm.InputError
	if _, err := c.AcceptRemovals(t.Context(), ""); !errors.As(err, &input) {
		t.Errorf("accept nothing: %v", err)
	}
	if _, err := c.WaitAccepted(t.Context(), drm.SourceOrder{}); !errors.Is(err, drm.ErrOrderExpired) {
		t.Errorf("wait for no order: %v", err)
	}
}
