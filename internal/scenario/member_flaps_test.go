package scenario_test

import (
	"maps"
	"regexp"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	value "github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// died makes it look as if b had died so many times in a row, each time soon after its start.
func (w *world) died(times int) {
	w.tb.Helper()
	granted, err := w.etcd.Grant(w.tb.Context(), 600)
	if err != nil {
		w.tb.Fatal(err)
	}
	had := value.Lives{Starts: times, Since: time.Now().Add(-80 * time.Second)}
	w.put(lives(w), had.Encode(), clientv3.WithLease(granted.ID))
}

func lives(w *world) string { return keys.New(drm.DefaultPrefix, w.app).Lives("b") }

// counted returns how many lives in a row etcd knows of b; 0 if there is no key.
func (w *world) counted() int {
	w.tb.Helper()
	text, _ := w.get(lives(w))
	l, err := value.DecodeLives([]byte(text))
	if text != "" && err != nil {
		w.tb.Fatal(err)
	}
	return l.Starts
}

func TestAMemberThatFlapsGetsItsShareBackLater(t *testing.T) {
	t.Parallel()
	const wait = 8 * time.Second // by then, also a slow machine has looked at b while it waits
	w, r := newWorld(t), newRecorder(t)
	w.options.FlapWait = wait
	w.catalogueOf(60)
	w.start(w.config("a", r))
	w.start(w.config("c", r))
	r.until("two members share 60", func() bool { return len(r.holders()) == 60 && settled(t, w) })
	before, mark := r.holders(), len(r.all())

	w.died(2)
	began := time.Now()
	b := w.startOnly(w.config("b", r))
	if took := time.Since(began); took >= wait {
		t.Errorf("the start took %v", took)
	}
	m := w.member("b")
	want := regexp.MustCompile(`^2 short lives in 1m[2-5][0-9]s; takes its share again at \d\d:\d\d:\d\d UTC$`)
	if m.State != "unready" || !want.MatchString(m.Reason) || len(m.Slots) > 0 {
		t.Errorf("after two short lives: %+v", m)
	}
	s, err := w.client().Status(t.Context())
	if err != nil || len(s.Unready) != 1 || s.Unready[0].Reason != m.Reason {
		t.Errorf("status %+v, %v", s, err)
	}
	if n := w.counted(); n != 3 {
		t.Errorf("%d lives are counted", n)
	}
	if !maps.Equal(r.holders(), before) || len(r.all()) != mark {
		t.Errorf("meanwhile: %v", r.all()[mark:])
	}
	r.until("b has its share", func() bool { return len(of(r.holders(), "b")) > 0 && settled(t, w) })
	if took := time.Since(began); took < wait {
		t.Errorf("b has its share after %v", took)
	}
	if m := w.member("b"); m.State != "active" || m.Reason != "" {
		t.Errorf("then: %+v", m)
	}

	w.stop(b) // in order: nothing of that counts any more
	if n := w.counted(); n != 0 {
		t.Errorf("after the stop %d lives are counted", n)
	}
	r.until("two members share 60 again", func() bool { return len(r.holders()) == 60 && settled(t, w) })
	w.start(w.config("b", r))
	if m := w.member("b"); m.State != "active" {
		t.Errorf("after a stop in order: %+v", m)
	}
	if n := w.counted(); n != 1 {
		t.Errorf("then %d lives are counted", n)
	}
}

func TestALoneDeathCostsNothing(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(10)
	w.start(w.config("a", r))
	w.died(1)
	w.start(w.config("b", r))
	if m := w.member("b"); m.State != "active" {
		t.Errorf("after one short life: %+v", m)
	}
	if n := w.counted(); n != 2 {
		t.Errorf("%d lives are counted", n)
	}
}

// Where nobody else is there, a member that flaps takes everything at once: to have nobody is worse.
func TestAMemberThatFlapsAloneTakesEverything(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.options.FlapWait = time.Hour
	w.catalogueOf(10)
	w.died(7)
	w.start(w.config("b", r))
	r.until("it has all", allHeld(r, 10))
	if m := w.member("b"); m.State != "active" || m.Reason == "" {
		t.Errorf("it is %+v", m)
	}
}

func TestWhatSaysHowAMemberHasEndedMayBeGarbage(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(10)
	w.start(w.config("a", r))
	w.put(lives(w), "garbage")
	w.start(w.config("b", r))
	if m := w.member("b"); m.State != "active" {
		t.Errorf("it is %+v", m)
	}
	text, lease := w.get(lives(w))
	if l, err := value.DecodeLives([]byte(text)); err != nil || l.Starts != 1 || lease == 0 {
		t.Errorf("then the key says %q on lease %d, %v", text, lease, err)
	}
}
