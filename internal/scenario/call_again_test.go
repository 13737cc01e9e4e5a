package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/distributed-resource-manager/drm"
)

// restartable is a recorder whose work a service does.
type restartable struct {
	*recorder
	mu       sync.Mutex
	instance string
}

func (s *restartable) Instance(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.instance, nil
}

func (s *restartable) Handle(ctx context.Context, c drm.Claim) error {
	instance, _ := s.Instance(ctx)
	c.ServedBy(instance)
	return s.recorder.Handle(ctx, c)
}

func (s *restartable) restart(instance string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instance = instance
}

func TestWhatARestartedServiceHadIsHandledAgainAndNothingMoves(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	s := &restartable{recorder: r, instance: "one"}
	a, b := w.start(w.config("a", s)), w.start(w.config("b", newRecorder(t)))
	const n = 40
	for i := range n {
		if err := a.Allocate(t.Context(), drm.Resource{ID: fmt.Sprint("r", i)}); err != nil {
			t.Fatal(err)
		}
	}
	r.until("all are handled", func() bool { return len(a.Held())+len(b.Held()) == n })
	before := map[string]int64{}
	for _, h := range a.Held() {
		before[h.Resource] = h.Token
	}
	s.restart("two")
	r.until("all are handled again", func() bool {
		return r.count("handle", "") == 2*len(before) && len(a.Held()) == len(before)
	})
	for _, h := range a.Held() {
		if before[h.Resource] != h.Token {
			t.Errorf("%s has token %d, had %d", h.Resource, h.Token, before[h.Resource])
		}
	}
	if n := r.count("terminate", ""); n != 0 {
		t.Errorf("%d terminates were sent to an instance that had nothing", n)
	}
	if err := a.Deallocate(t.Context(), a.Held()[0].Resource); err != nil {
		t.Fatal(err)
	}
	r.until("the new instance is told to end one", func() bool { return r.count("terminate", "") == 1 })
}

func TestAMemberHandlesAgainWhenItIsTold(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	var contexts []context.Context
	r.onHandle = func(ctx context.Context, _ drm.Claim) error { contexts = append(contexts, ctx); return nil }
	m := w.start(w.config("a", r))
	if err := m.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	r.until("it is handled", func() bool { return len(m.Held()) == 1 })
	if n, err := m.Reannounce(); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	r.until("it is handled again", func() bool { return r.count("handle", "x") == 2 && len(m.Held()) == 1 })
	if cause := context.Cause(contexts[0]); !errors.Is(cause, drm.CauseServiceRestarted) {
		t.Errorf("the first handling's context has ended because of %v", cause)
	}
	if contexts[1].Err() != nil || r.count("terminate", "") != 0 {
		t.Errorf("the second has ended because of %v; %v", context.Cause(contexts[1]), r.all())
	}
	if err := m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Reannounce(); !errors.Is(err, drm.ErrStopped) {
		t.Errorf("after the end: %v", err)
	}
	if err := m.Fail("x", 1, nil); !errors.Is(err, drm.ErrStopped) {
		t.Errorf("after the end: %v", err)
	}
}

func TestWhatFailsIsTerminatedAndHandledAgain(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	claims, third := make(chan drm.Claim, 8), make(chan struct{})
	r.onHandle = func(_ context.Context, c drm.Claim) error {
		claims <- c
		if r.count("handle", "x") == 3 { // until then, the claim says why it is handled once more
			<-third
		}
		return nil
	}
	cfg := w.config("a", r)
	m := w.start(cfg)
	if err := m.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	r.until("it is handled", func() bool { return len(m.Held()) == 1 })
	claim := <-claims
	claim.Fail(errors.New("wedged"))
	r.until("it is handled again", func() bool { return r.count("handle", "x") == 2 && len(m.Held()) == 1 })
	if n := r.count("terminate", "x"); n != 1 {
		t.Errorf("%d terminates", n)
	}
	if err := m.Fail("x", claim.Token, errors.New("the service says so")); err != nil {
		t.Fatal(err)
	}
	client := w.client()
	r.until("the claim says why", func() bool {
		a, err := client.Lookup(t.Context(), "x")
		return err == nil && a.State == drm.StateFailed && a.Error == "the service says so"
	})
	close(third)
	r.until("it is handled again", func() bool { return r.count("handle", "x") == 3 && len(m.Held()) == 1 })
	if err := m.Fail("x", claim.Token+1, nil); !errors.Is(err, drm.ErrNotHeld) {
		t.Errorf("under another token: %v", err)
	}
	if err := m.Fail("y", claim.Token, nil); !errors.Is(err, drm.ErrNotHeld) {
		t.Errorf("another resource: %v", err)
	}
	if err := m.Report("x", claim.Token, errors.New("ailing")); err != nil {
		t.Fatal(err)
	}
	if held := m.Held(); len(held) != 1 || held[0].Error != "ailing" {
		t.Errorf("held: %+v", held)
	}
	if err := m.Report("x", claim.Token, nil); err != nil {
		t.Fatal(err)
	}
	if held := m.Held(); len(held) != 1 || held[0].State != drm.StateActive {
		t.Errorf("held: %+v", held)
	}
}

func TestAMemberWhoseReadySaysThatTheServiceWasRestartedHandlesAgain(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	h := &health{}
	var once sync.Once
	restarted := make(chan struct{})
	m := w.start(w.probed("a", r, func(ctx context.Context) (err error) {
		select {
		case <-restarted:
			once.Do(func() { err = fmt.Errorf("as the probe sees it: %w", drm.ErrServiceRestarted) })
		default:
		}
		return errors.Join(err, h.ready(ctx))
	}))
	if err := m.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	r.until("it is handled", func() bool { return len(m.Held()) == 1 })
	token := m.Held()[0].Token
	close(restarted)
	r.until("it is handled again", func() bool { return r.count("handle", "x") == 2 && len(m.Held()) == 1 })
	if held := m.Held(); held[0].Token != token || r.count("terminate", "") != 0 {
		t.Errorf("held %+v, was under token %d; %v", held, token, r.all())
	}
	if status := m.Health().Status(); status.State != drm.HealthReady {
		t.Errorf("the member is %v: %s", status.State, status.Reason)
	}
}
