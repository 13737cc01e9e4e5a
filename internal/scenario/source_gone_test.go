package scenario_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// abandoned makes an app whose source is gone: its members have stopped or died. The source left 3 resources that only
// it wanted, one that is also allocated, and one that was deallocated.
func (w *world) abandoned(r *recorder, gone time.Duration) {
	w.tb.Helper()
	src := newSource("s0", "s1", "s2", "both", "suspended")
	cfg := w.config("sourced", r)
	cfg.AllocateOnly, cfg.Retriever, cfg.SourceGone = false, src, gone
	m := w.startOnly(cfg)
	r.until("all are handled", allHeld(r, 5))
	if err := m.Allocate(context.Background(), drm.Resource{ID: "both"}); err != nil {
		w.tb.Fatal(err)
	}
	if err := m.Deallocate(context.Background(), "suspended"); err != nil {
		w.tb.Fatal(err)
	}
	r.until("one is not any more", allHeld(r, 4))
	w.stop(m)
}

// entries counts the keys of the catalogue and of what was deallocated.
func (w *world) entries() (n int) {
	w.tb.Helper()
	layout := keys.New("/drm", w.app)
	for _, prefix := range []string{layout.Shards(), layout.Deallocations()} {
		resp, err := w.etcd.Get(context.Background(), prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err != nil {
			w.tb.Fatal(err)
		}
		for _, kv := range resp.Kvs {
			if k := layout.Parse(string(kv.Key)).Kind; k == keys.Resource || k == keys.Deallocation {
				n++
			}
		}
	}
	return n
}

// vouched returns what the source's record says about whether there is a source. has is false where there is no record.
func (w *world) vouched() (v catalogue.Vouch, has bool) {
	w.tb.Helper()
	resp, err := w.etcd.Get(context.Background(), keys.New("/drm", w.app).Source())
	if err != nil {
		w.tb.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return v, false
	}
	if err := json.Unmarshal(resp.Kvs[0].Value, &v); err != nil {
		w.tb.Fatal(err)
	}
	return v, true
}

func TestMembersThatOnlyAllocateForgetASourceThatIsGone(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.abandoned(r, time.Second)
	cfg := w.config("a", r)
	cfg.SourceGone = 2 * time.Second // this one counts, since it is longer than the other
	observed, logs := observer.New(zap.WarnLevel)
	cfg.Logger = zap.New(observed)
	m := w.start(cfg)
	r.until("all are handled by who only allocates", allHeld(r, 4))
	r.until("what only the source wanted is not any more", allHeld(r, 1))
	if r.holders()["both"] != "a" {
		t.Errorf("held: %v, want what was allocated", r.holders())
	}
	r.until("nothing else is left", func() bool { _, has := w.vouched(); return !has && w.entries() == 1 })
	told := logged(t, logs, "forgot a source", 1)
	if len(told) != 1 || told[0].ContextMap()["removed"] != int64(3) {
		t.Errorf("logged %v", logs.All())
	}
	for n := range 20 { // a queue would go on for ever
		id := fmt.Sprintf("job %d", n)
		if err := m.Allocate(t.Context(), drm.Resource{ID: id}); err != nil {
			t.Fatal(err)
		}
		if err := m.Deallocate(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.entries(); n != 1 {
		t.Errorf("%d entries are left, want 1", n)
	}
	// A source that comes back begins as in a new app.
	cfg = w.config("b", r)
	cfg.AllocateOnly, cfg.Retriever = false, newSource("s0", "suspended")
	w.start(cfg)
	r.until("what it has is handled", allHeld(r, 3))
}

// The members that are there count the time, and the count goes on when another one coordinates.
func TestTheTimeWithoutASourceIsCountedByWhoIsThere(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.abandoned(r, time.Hour)
	alone := func() time.Duration {
		v, has := w.vouched()
		if !has {
			t.Fatal("there is no record")
		}
		return time.Duration(v.AloneMS) * time.Millisecond
	}
	var before time.Duration
	for n := range 3 {
		cfg := w.config(fmt.Sprint(n), r)
		cfg.SourceGone = 3200 * time.Millisecond // the time is then counted every 100 ms
		m := w.startOnly(cfg)
		r.until("it is counted", func() bool { return alone() > before })
		w.stop(m)
		before = alone()
	}
	if before > time.Minute {
		t.Errorf("%v are counted", before)
	}
	cfg := w.config("back", r)
	cfg.AllocateOnly, cfg.Retriever = false, newSource("s0", "s1", "s2", "both", "suspended")
	w.start(cfg)
	r.until("none is counted, since a source is there", func() bool { return alone() == 0 })
}

func TestASourceIsNotForgottenWhereThatIsSwitchedOff(t *testing.T) {
	t.Parallel()
	for name, gone := range map[string][2]time.Duration{
		"by who had it": {drm.Forever, time.Second}, "by who only allocates": {time.Second, drm.Forever},
		"not yet": {time.Second, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, r := newWorld(t), newRecorder(t)
			w.abandoned(r, gone[0])
			cfg := w.config("a", r)
			cfg.SourceGone = gone[1]
			w.start(cfg)
			r.until("all are handled by who only allocates", allHeld(r, 4))
			timer := time.NewTimer(2 * time.Second)
			defer timer.Stop()
			<-timer.C
			if !allHeld(r, 4)() {
				t.Errorf("held: %v", r.holders())
			}
		})
	}
}

// The coordinator vouches for a source that nothing polls.
func TestASourceThatNothingPollsIsThere(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource("x")
	cfg := w.config("a", r)
	cfg.AllocateOnly, cfg.Retriever, cfg.SourceGone = false, src, time.Second
	m := w.start(cfg)
	only := w.config("b", r)
	only.SourceGone = time.Second
	w.start(only)
	first, _ := w.vouched() // a fresh app's Start has waited for its first fetch
	if first.By == 0 || first.AfterMS != 1000 {
		t.Errorf("the record says %+v", first)
	}
	_, asked, _ := src.counts()
	r.until("it was vouched for, for longer than it takes to be gone", func() bool {
		v, _ := w.vouched()
		return v.At.Sub(first.At) > 2*time.Second && v.AloneMS == 0 && !v.Gone
	})
	if err := m.Deallocate(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if n := w.entries(); n != 2 {
		t.Errorf("%d entries and marks, want a suspended entry and its mark", n)
	}
	if _, now, _ := src.counts(); now > asked+2 { // the second member's join may have made it be asked
		t.Errorf("it was asked %d times", now-asked)
	}
}

func TestDropSource(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	c := w.client()
	if _, err := c.DropSource(t.Context()); !errors.Is(err, drm.ErrNotFound) {
		t.Errorf("of an app that does not exist: %v, want ErrNotFound", err)
	}
	only := w.start(w.config("a", r))
	if n, err := c.DropSource(t.Context()); err != nil || n != 0 {
		t.Errorf("of an app that has none: %d, %v", n, err)
	}
	src := newSource("s0", "s1", "s2", "both", "suspended")
	cfg := w.config("b", r)
	cfg.AllocateOnly, cfg.Retriever = false, src
	m := w.startOnly(cfg)
	r.until("all are handled", allHeld(r, 5))
	for _, drop := range []func(context.Context) (int, error){c.DropSource, c.SourceLeaves} {
		var inUse *drm.SourceInUseError
		if n, err := drop(t.Context()); !errors.As(err, &inUse) || !errors.Is(err, drm.ErrSourceInUse) ||
			inUse.Member != "b" || n != 0 {
			t.Errorf("while its member lives: %d, %v", n, err)
		}
	}
	if err := m.Allocate(t.Context(), drm.Resource{ID: "both"}); err != nil {
		t.Fatal(err)
	}
	if err := m.Deallocate(t.Context(), "suspended"); err != nil {
		t.Fatal(err)
	}
	w.stop(m)
	if n, err := c.SourceLeaves(t.Context()); err != nil || n != 3 {
		t.Errorf("SourceLeaves: %d, %v, want 3", n, err)
	}
	if n, err := c.DropSource(t.Context()); err != nil || n != 3 {
		t.Errorf("DropSource: %d, %v, want 3", n, err)
	}
	r.until("what was allocated is handled, and nothing else", allHeld(r, 1))
	if _, has := w.vouched(); has || w.entries() != 1 {
		t.Errorf("a record: %v, %d entries and marks", has, w.entries())
	}
	all, err := c.Resources(t.Context())
	if err != nil || len(all) != 1 || !all[0].Allocated || all[0].FromSource {
		t.Errorf("the catalogue: %+v, %v", all, err)
	}
	if err := only.Deallocate(t.Context(), "both"); err != nil || w.entries() != 0 {
		t.Errorf("Deallocate: %v, and %d entries are left", err, w.entries())
	}
	r.until("nothing is wrong", func() bool {
		found, err := c.Verify(t.Context())
		return err == nil && len(found) == 0
	})
}

// A member with a source joins while the source is dropped. It then handles everything that its source has.
func TestASourceThatComesWhileItIsDroppedIsWhole(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	want := ids(400)
	src := newSource(want...)
	cfg := w.config("a", r)
	cfg.AllocateOnly, cfg.Retriever = false, src
	m := w.startOnly(cfg)
	r.until("all are handled", allHeld(r, len(want)))
	w.stop(m)
	dropped := make(chan error, 1)
	c := w.client()
	go func() {
		_, err := c.DropSource(context.Background())
		dropped <- err
	}()
	cfg.ID = "b"
	w.start(cfg)
	if err := <-dropped; err != nil && !errors.Is(err, drm.ErrSourceInUse) {
		t.Errorf("DropSource: %v", err)
	}
	r.until("all are handled", allHeld(r, len(want)))
	s, err := c.Status(t.Context())
	if err != nil || s.Resources != len(want) {
		t.Errorf("%d resources, %v, want %d", s.Resources, err, len(want))
	}
}

// If nobody knew that there is a source again, what it left could be forgotten while the catalogue is being read.
func TestASourceIsVouchedForBeforeItIsAsked(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	q := newRequests(w.app)
	var refused atomic.Int32
	q.spoil = func(k kind, _, _ int) fault {
		if k == records && refused.Add(1) <= 2 {
			return refuse
		}
		return noFault
	}
	src := newSource("x")
	src.onFetch = func(context.Context) {
		if v, has := w.vouched(); !has || v.By == 0 {
			t.Errorf("it is asked while the record says %+v (there is one: %v)", v, has)
		}
	}
	cfg := w.config("a", r)
	cfg.Etcd = drm.EtcdConfig{Client: q.client(t, w.endpoint), DialTimeout: patience}
	cfg.AllocateOnly, cfg.Retriever = false, src
	w.start(cfg)
	r.until("it is handled", allHeld(r, 1))
	if refused.Load() <= 2 {
		t.Error("no record was refused")
	}
}
