package scenario_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/faultproxy"
)

// healthy waits until a member's health has a state, and a reason with these parts.
func healthy(tb testing.TB, h *drm.Health, state drm.HealthState, parts ...string) drm.HealthStatus {
	tb.Helper()
	var s drm.HealthStatus
	await(tb, "a member that is "+string(state)+" because of "+strings.Join(parts, ", "), func() bool {
		if s = h.Status(); s.State != state {
			return false
		}
		for _, part := range parts {
			if !strings.Contains(s.Reason, part) {
				return false
			}
		}
		return true
	})
	return s
}

// live fails the test unless a member is as alive as expected. A member has long to answer if it should, since the
// machine may be slow.
func live(tb testing.TB, h *drm.Health, want bool) error {
	tb.Helper()
	patience := patience
	if !want {
		patience = 100 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := h.Live(ctx)
	if (err == nil) != want {
		tb.Errorf("the member is alive: %v, want %v", err, want)
	}
	return err
}

// A member that was killed and starts again at once waits for its own old key. Whoever probes it meanwhile learns for
// what it waits, and that it is alive.
func TestHealthTellsWhatAStartWaitsFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	holder := w.config("x", newRecorder(t))
	holder.Address = "host-7"
	before := w.start(holder)
	healthy(t, before.Health(), drm.HealthReady)

	health := new(drm.Health)
	if s := health.Status(); s.State != drm.HealthStarting || s.Reason == "" || !s.Since.IsZero() {
		t.Errorf("before the start: %+v", s)
	}
	cfg := w.config("x", newRecorder(t))
	cfg.LeaseTTL, cfg.Health = 5*time.Minute, health
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	started := make(chan error, 1)
	begun := time.Now()
	go func() {
		_, err := w.tryStart(ctx, cfg)
		started <- err
	}()
	s := healthy(t, health, drm.HealthStarting, `waiting for the member id "x" to be free`, "host-7", "within 5m1s")
	if s.Since.Before(begun) || s.Until.Before(begun.Add(5*time.Minute)) ||
		s.Until.After(time.Now().Add(6*time.Minute)) {
		t.Errorf("it waits since %v until %v", s.Since, s.Until)
	}
	_ = live(t, health, true)
	if health.Manager() != nil {
		t.Error("there is a manager before the member has joined")
	}
	cfg.Health = health
	var input *drm.InputError
	if _, err := w.tryStart(t.Context(), cfg); !errors.As(err, &input) || input.Field != "Health" {
		t.Errorf("a second start with the same Health: %v", err)
	}
	cancel(errNo)
	if err := <-started; !errors.Is(err, errNo) {
		t.Errorf("start: %v", err)
	}
	healthy(t, health, drm.HealthEnded, errNo.Error())
	if err := live(t, health, false); !errors.Is(err, drm.ErrStopped) {
		t.Errorf("after the start: %v", err)
	}

	w.stop(before)
	healthy(t, before.Health(), drm.HealthEnded, "was stopped")
	m := w.startOnly(cfg) // the Health is free again, and so is the id
	if healthy(t, health, drm.HealthReady); health.Manager() != m || m.Health() != health {
		t.Error("the Health has another manager")
	}
	w.stop(m)
}

// A start that waits for the source says so, and its member can be asked what it handles: allocations do not wait for
// the source.
func TestHealthHasTheManagerOnceTheMemberHasJoined(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	src := newSource()
	src.set(nil, errors.New("the database is down"))
	cfg := w.config("a", newRecorder(t))
	cfg.AllocateOnly, cfg.Retriever, cfg.FetchRetryBudget = false, src, drm.Forever
	cfg.Health = new(drm.Health)
	ctx, cancel := context.WithCancelCause(t.Context())
	started := make(chan error, 1)
	go func() {
		_, err := w.tryStart(ctx, cfg)
		started <- err
	}()
	healthy(t, cfg.Health, drm.HealthStarting, "waiting for the first fetch of the app's source", "coordinator a")
	m := cfg.Health.Manager()
	if m == nil {
		t.Fatal("there is no manager")
	}
	if err := m.Allocate(t.Context(), drm.Resource{ID: "r"}); err != nil {
		t.Fatal(err)
	}
	await(t, "the resource is handled", func() bool { return len(m.HeldClaims()) == 1 })
	_ = live(t, cfg.Health, true)
	cancel(errNo)
	if err := <-started; !errors.Is(err, errNo) {
		t.Errorf("start: %v", err)
	}
}

// A member whose leases are fenced, since etcd does not answer, handles nothing: it is not ready, but alive. It comes
// back by itself.
func TestAMemberThatLosesEtcdIsAliveButNotReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	proxy, err := faultproxy.New(w.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	cfg := w.config("a", newRecorder(t))
	cfg.Etcd.Endpoints, cfg.LeaseTTL = []string{proxy.Endpoint()}, 2*time.Second
	cfg.Etcd.CommandTimeout = drm.DefaultCommandTimeout
	m := w.start(cfg)
	healthy(t, m.Health(), drm.HealthReady)
	proxy.BlackHole()
	healthy(t, m.Health(), drm.HealthUnready, "fenced", "register")
	_ = live(t, m.Health(), true)
	proxy.Heal()
	healthy(t, m.Health(), drm.HealthReady)
}

func TestAMemberWhoseLoopHangsIsNotAlive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.start(w.config("a", newRecorder(t)))
	_ = live(t, m.Health(), true)
	release := w.probe(m).Wedge()
	_ = live(t, m.Health(), false)
	release()
	_ = live(t, m.Health(), true)
}

func TestAMemberThatStopsSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := newRecorder(t)
	m := w.startOnly(w.config("a", r))
	w.allocate("r")
	await(t, "it is handled", func() bool { return len(m.HeldClaims()) == 1 })
	blocked := make(chan struct{})
	r.onTerminate = func(context.Context, drm.Claim) error { <-blocked; return nil }
	stopped := make(chan error, 1)
	go func() { stopped <- m.Stop(context.Background()) }()
	if s := healthy(t, m.Health(), drm.HealthStopping, "stopping"); s.Until.IsZero() {
		t.Errorf("until: %+v", s)
	}
	_ = live(t, m.Health(), true)
	close(blocked)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	healthy(t, m.Health(), drm.HealthEnded, "stopped")
}

func TestHeldClaimsHaveTheDataAndTakeReports(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.start(w.config("a", newRecorder(t)))
	for _, id := range []string{"b", "a", "c"} {
		r, err := drm.ParseResource([]byte(`{"id":"` + id + `","n":[1]}`))
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Allocate(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "they are handled", func() bool { return len(m.HeldClaims()) == 3 })
	tokens := map[string]int64{}
	for _, a := range m.Held() {
		tokens[a.Resource] = a.Token
	}
	for i, h := range m.HeldClaims() {
		id := string(rune('a' + i))
		if c := h.Claim; c.Resource.ID != id || string(c.Resource.Data) != `{"id":"`+id+`","n":[1]}` ||
			c.Token != tokens[id] || c.Token == 0 || c.Member != "a" || c.App != w.app || h.State != drm.StateActive ||
			h.Since.IsZero() {
			t.Errorf("claim %d: %v %s %+v", i, c, c.Resource.Data, h)
		}
		if left := h.Claim.Remaining(); left <= 0 || left > 10*time.Second {
			t.Errorf("%s is valid for %v", id, left)
		}
	}
	one, ok := m.HeldClaim("b")
	if !ok || one.Claim.Resource.ID != "b" || one.Claim.Token != tokens["b"] {
		t.Errorf("the claim of b: %+v, %v", one, ok)
	}
	if none, ok := m.HeldClaim("d"); ok {
		t.Errorf("the claim of d: %+v", none)
	}
	one.Claim.Report(errNo)
	await(t, "the report arrives", func() bool {
		h, ok := m.HeldClaim("b")
		return ok && h.State == drm.StateFailed && h.Error == errNo.Error()
	})
}
