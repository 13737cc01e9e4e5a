package scenario_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// rejoining starts a, b and c, of which b has that Rejoin, and waits until they share 60 resources. It returns b, its
// config, and who holds what.
func (w *world) rejoining(r *recorder, rejoin time.Duration) (b *drm.Manager, cfg drm.Config, held map[string]string) {
	w.tb.Helper()
	w.catalogueOf(60)
	w.start(w.config("a", r))
	cfg = w.config("b", r)
	cfg.Rejoin = rejoin
	b = w.startOnly(cfg)
	w.start(w.config("c", r))
	r.until("three members share 60", func() bool {
		return allHeld(r, 60)() && len(of(r.holders(), "b")) > 0 && settled(w.tb, w) && w.registered("active") == 3
	})
	return b, cfg, r.holders()
}

// reservation is the key that keeps b's shards for it.
func reservation(w *world) string { return keys.New(drm.DefaultPrefix, w.app).Reservation("b") }

// others returns the calls that are not b's, from a number of calls on.
func othersFrom(r *recorder, mark int) (calls []call) {
	for _, c := range r.all()[mark:] {
		if c.Member != "b" {
			calls = append(calls, c)
		}
	}
	return calls
}

func TestAMemberThatIsBackInTimeFindsWhatItHad(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	b, cfg, before := w.rejoining(r, time.Hour)
	mark, had := len(r.all()), len(of(maps.Clone(before), "b"))
	w.stop(b)
	if n := len(r.holders()); n != 60-had {
		t.Errorf("%d are held after the stop, want %d", n, 60-had)
	}
	// Meanwhile everybody says why nobody has them.
	m := w.member("b")
	if m.State != "absent" || !strings.HasPrefix(m.Reason, "it has stopped and is expected back until ") ||
		m.Shards == 0 || len(m.Slots) != 1 {
		t.Errorf("while it is away: %+v", m)
	}
	c := w.client()
	s, err := c.Status(t.Context())
	if err != nil || s.Awaited != had || s.Unassigned != had || s.Members != 2 || s.Misplaced != 0 {
		t.Errorf("status %+v, %v, want %d that wait", s, err, had)
	}
	for id, member := range before {
		a, err := c.Lookup(t.Context(), id)
		if err != nil || member == "b" && (a.State != drm.StateUnassigned || a.Expected != "b" ||
			!strings.HasPrefix(a.Error, "its member b has stopped and is expected back until ")) {
			t.Fatalf("%s of %s: %+v, %v", id, member, a, err)
		}
	}
	if found, err := c.Verify(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("violations %v, %v", found, err)
	}

	w.start(cfg)
	r.until("all are handled", func() bool { return len(r.holders()) == 60 && settled(t, w) })
	if held := r.holders(); !maps.Equal(held, before) {
		t.Errorf("held by %v, want %v as before", held, before)
	}
	if calls := othersFrom(r, mark); len(calls) > 0 {
		t.Errorf("meanwhile: %v", calls)
	}
	if left, err := w.etcd.Get(t.Context(), reservation(w)); err != nil || left.Count != 0 {
		t.Errorf("%d reservations are left, %v", left.Count, err)
	}
}

func TestAMemberThatIsNotBackInTimeLosesWhatItHadOnce(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	b, _, before := w.rejoining(r, 2*time.Second)
	mark := len(r.all())
	w.stop(b)
	began := time.Now()
	r.until("the others have taken over", func() bool { return len(r.holders()) == 60 && settled(t, w) })
	if took := time.Since(began); took < time.Second {
		t.Errorf("the others have taken over after %v", took)
	}
	moved := of(maps.Clone(before), "b")
	for _, c := range othersFrom(r, mark) {
		if c.Action != "handle" || before[c.Resource] != "b" {
			t.Errorf("%s of %s by %s, which %s had", c.Action, c.Resource, c.Member, before[c.Resource])
		}
		delete(moved, c.Resource)
	}
	if len(moved) > 0 {
		t.Errorf("nobody has taken %v", moved)
	}
}

// A joiner takes its share of what waits, too; but the place of the one that is away is kept.
func TestAJoinWhileAMemberIsAwayDoesNotTakeItsPlace(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	b, cfg, _ := w.rejoining(r, time.Hour)
	mark := len(r.all())
	w.stop(b)
	slots := w.member("b").Slots
	w.start(w.config("d", r))
	r.until("d has its share", func() bool { return len(of(r.holders(), "d")) > 0 && w.registered("active") == 3 })
	if d := w.member("d"); len(d.Slots) != 1 || d.Slots[0] == slots[0] {
		t.Errorf("d has the slots %v, and %v wait for b", d.Slots, slots)
	}
	w.start(cfg)
	r.until("all are handled", func() bool { return len(r.holders()) == 60 && settled(t, w) })
	for _, c := range othersFrom(r, mark) {
		if c.Action == "terminate" && r.holders()[c.Resource] == "b" {
			t.Errorf("%s moved from %s to b", c.Resource, c.Member)
		}
	}
}

// What a member had that dies meanwhile goes to those who are there, and not to the one that is away.
func TestADeathWhileAMemberIsAwayIsActedOnAtOnce(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	b, _, _ := w.rejoining(r, time.Hour)
	d := w.startOnly(w.config("d", r))
	r.until("d has its share", func() bool { return len(of(r.holders(), "d")) > 0 && settled(t, w) })
	before := r.holders()
	w.stop(b)
	w.stop(d)
	r.until("the others have what d had", func() bool {
		return len(r.holders()) == 60-len(of(maps.Clone(before), "b"))
	})
}

func TestADrainEndsTheWaitForAMember(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	b, _, _ := w.rejoining(r, time.Hour)
	w.stop(b)
	if err := w.client().Drain(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	r.until("the others have taken over", func() bool { return len(r.holders()) == 60 && settled(t, w) })
}

func TestAMemberThatComesBackAndIsNotReadyIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	b, cfg, _ := w.rejoining(r, time.Hour)
	w.stop(b)
	cfg.Ready, cfg.ReadyInterval = (&health{err: errSick}).ready, 100*time.Millisecond
	back := w.startOnly(cfg)
	r.until("the others have taken over", func() bool { return len(r.holders()) == 60 && settled(t, w) })
	if n := len(of(r.holders(), "b")); n > 0 {
		t.Errorf("it has %d", n)
	}
	w.stop(back) // it owns nothing, so it reserves nothing
	if left, err := w.etcd.Get(t.Context(), reservation(w)); err != nil || left.Count != 0 {
		t.Errorf("%d reservations are left, %v", left.Count, err)
	}
}

// A crash reserves nothing.
func TestAMemberThatDiesIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	r.onTerminate = r.hasItsTime
	b, _, before := w.rejoining(r, time.Hour)
	defer w.stop(b)
	mark := len(r.all())
	was, err := w.etcd.Get(t.Context(), keys.New(drm.DefaultPrefix, w.app).Member("b"))
	if err != nil || len(was.Kvs) == 0 {
		t.Fatalf("read b's key: %v, %v", was, err)
	}
	if _, err := w.etcd.Revoke(t.Context(), clientv3.LeaseID(was.Kvs[0].Lease)); err != nil {
		t.Fatal(err)
	}
	r.until("another member has something of b", func() bool {
		for _, c := range othersFrom(r, mark) {
			if before[c.Resource] == "b" {
				return true
			}
		}
		return w.registered("active") == 3 // or it was faster to come back than the others to take over
	})
}

// Where there is little to end, everything is released before etcd has the reservation; the member's key must not go
// before that.
func TestAStopThatIsOverAtOnceReservesAllTheSame(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(6)
	w.start(w.config("a", r))
	cfg := w.config("b", r)
	cfg.Rejoin = time.Hour
	b := w.startOnly(cfg)
	r.until("both share 6", func() bool { return allHeld(r, 6)() && len(of(r.holders(), "b")) > 0 && settled(t, w) })
	w.stop(b)
	if key, lease := w.get(reservation(w)); key == "" || lease == 0 {
		t.Errorf("the reservation is %q on lease %d", key, lease)
	}
}

// A stop does not wait for a successor: there is none.
func TestAStopThatReservesIsAsFastAsThatOfALoneMember(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(2000)
	w.start(w.config("a", r))
	cfg := w.config("b", r)
	cfg.Rejoin = time.Hour
	b := w.startOnly(cfg)
	r.until("both share 2000", func() bool { return len(r.holders()) == 2000 && settled(t, w) })
	began := time.Now()
	w.stop(b)
	// Each claim that nobody takes over is waited for during Handover, of which some are on their way at once.
	if took := time.Since(began); took > soon {
		t.Errorf("the stop took %v", took)
	}
}
