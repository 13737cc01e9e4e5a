package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
)

// health is what a member's Ready returns.
type health struct {
	mu    sync.Mutex
	err   error
	asked int
}

func (h *health) set(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

func (h *health) ready(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked++
	return h.err
}

// times returns how often Ready was called.
func (h *health) times() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked
}

var errSick = errors.New("the database is away")

// probed returns the config of a member whose Ready is asked often.
func (w *world) probed(id string, h drm.Handler, ready func(context.Context) error) drm.Config {
	cfg := w.config(id, h)
	cfg.Ready, cfg.ReadyInterval, cfg.UnreadyAfter, cfg.ReadyAfter = ready, 100*time.Millisecond, 2, 2
	return cfg
}

// healthy starts members with these ids, each with a Ready that the test decides.
func (w *world) healthy(h drm.Handler, ids ...string) map[string]*health {
	w.tb.Helper()
	all := map[string]*health{}
	for _, id := range ids {
		all[id] = &health{}
		w.start(w.probed(id, h, all[id].ready))
	}
	return all
}

// member returns what a client is told of a member.
func (w *world) member(id string) drm.MemberInfo {
	w.tb.Helper()
	all, err := w.client().Members(w.tb.Context())
	if err != nil {
		w.tb.Fatal(err)
	}
	for _, m := range all {
		if m.ID == id {
			return m
		}
	}
	return drm.MemberInfo{}
}

// of picks the resources of one member.
func of(holders map[string]string, member string) map[string]string {
	maps.DeleteFunc(holders, func(_, m string) bool { return m != member })
	return holders
}

func TestAMemberThatIsNotReadyHandsOverAndComesBack(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t) // the recorder fails the test if two members handle a resource at once
	w.catalogueOf(60)
	all := w.healthy(r, "a", "b", "c")
	share := func() bool { return len(r.holders()) == 60 && settled(t, w) }
	r.until("three members share 60", func() bool { return share() && len(of(r.holders(), "b")) > 0 })
	before, mark := r.holders(), len(r.all())

	all["b"].set(fmt.Errorf("ask:\n\t%w", errSick))
	r.until("the others have what b had", func() bool { return share() && len(of(r.holders(), "b")) == 0 })
	if m := w.member(
		"b",
	); m.State != "unready" || m.Reason != "ask: "+errSick.Error() || m.Shards != 0 ||
		len(m.Slots) != 1 {
		t.Errorf("while it is not ready: %+v", m)
	}
	s, err := w.client().Status(t.Context())
	if want := (drm.UnreadyInfo{Member: "b", Reason: "ask: " + errSick.Error()}); err != nil ||
		!slices.Equal(s.Unready, []drm.UnreadyInfo{want}) || s.Misplaced != 0 {
		t.Errorf("status %+v, %v", s, err)
	}
	for id, m := range r.holders() {
		if was := before[id]; was != "b" && m != was {
			t.Errorf("%s moved from %s to %s", id, was, m)
		}
	}
	for _, c := range r.all()[mark:] {
		if before[c.Resource] != "b" {
			t.Errorf("%s of %s, which b did not have", c.Action, c.Resource)
		}
	}
	// Other members can be drained, and b too, as long as somebody who is ready is left.
	c := w.client()
	if err := c.Drain(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if err := c.Drain(t.Context(), "c"); !errors.Is(err, drm.ErrLastMember) ||
		!strings.Contains(err.Error(), "b could take what it has, but is not ready (ask: the database is away)") {
		t.Errorf("to drain the last one that is ready: %v", err)
	}
	for _, err := range []error{
		c.Drain(t.Context(), "b"), c.Undrain(t.Context(), "b"), c.Undrain(t.Context(), "a"),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	_ = waitSays(t, "it is not ready: ask: the", func(ctx context.Context) error { return c.WaitUndrained(ctx, "b") })
	r.until("a has its share again", func() bool { return share() && len(of(r.holders(), "a")) > 0 })

	all["b"].set(nil)
	r.until("b has what it had", func() bool { return share() && maps.Equal(r.holders(), before) })
	if m := w.member("b"); m.State != "active" || m.Reason != "" {
		t.Errorf("when it is ready again: %+v", m)
	}
}

func TestUnreadinessIsIgnoredWhereTooFewAreReady(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(60)
	observed, logs := observer.New(zap.InfoLevel)
	all := w.healthy(r, "a", "b")
	third := &health{}
	cfg := w.probed("c", r, third.ready)
	cfg.Logger = zap.New(observed)
	w.start(cfg)
	all["c"] = third
	share := func() bool { return len(r.holders()) == 60 && settled(t, w) }
	r.until("three members share 60", func() bool { return share() && len(of(r.holders(), "c")) > 0 })
	before := r.holders()

	all["c"].set(errSick)
	r.until("c has nothing", func() bool { return share() && len(of(r.holders(), "c")) == 0 })
	all["b"].set(errSick) // now only one of three is ready
	r.until("everybody has its share", func() bool { return share() && maps.Equal(r.holders(), before) })
	if m := w.member("c"); m.State != "active" || m.Reason != errSick.Error() || m.Shards == 0 {
		t.Errorf("while it is ignored: %+v", m)
	}
	s, err := w.client().Status(t.Context())
	if err != nil || len(s.Unready) != 2 || !s.Unready[0].Ignored || s.Unready[1].Member != "c" {
		t.Errorf("status %+v, %v", s, err)
	}
	all["a"].set(errSick)
	r.until("nobody is ready", func() bool { return w.member("a").Reason != "" })
	if !maps.Equal(r.holders(), before) {
		t.Errorf("held by %v, want what everybody had before", r.holders())
	}
	all["a"].set(nil)
	all["b"].set(nil)
	r.until("c has nothing again", func() bool { return share() && len(of(r.holders(), "c")) == 0 })
	for _, message := range []string{
		"not ready: other members take over what this one has",
		"too few members are ready, so this one goes on though it is not ready",
		"enough members are ready again: they take over what this one has",
	} {
		logged(t, logs, message, 1)
	}
}

// A member that starts while it cannot work must not move anything, not even between the others, whose ring grows when
// a new member takes a slot.
func TestAMemberThatStartsUnreadyTakesNothingUntilItIsReady(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(60)
	w.healthy(r, "a", "b")
	share := func() bool { return len(r.holders()) == 60 && settled(t, w) }
	r.until("two members share 60", share)
	before := r.holders()
	observed, logs := observer.New(zap.InfoLevel)
	h := &health{err: errSick}
	cfg := w.probed("c", r, h.ready)
	cfg.Logger = zap.New(observed)
	w.start(cfg) // it does not wait
	if m := w.member("c"); m.State != "unready" || m.Reason != errSick.Error() || len(m.Slots) != 0 {
		t.Errorf("after the start: %+v", m)
	}
	joined := logged(t, logs, "joined, but not ready", 1)
	if len(joined) != 1 || joined[0].ContextMap()["reason"] != errSick.Error() {
		t.Errorf("logged: %v", logs.All())
	}
	r.until("it was asked some times more", func() bool { return h.times() > 5 })
	if !maps.Equal(r.holders(), before) {
		t.Error("resources moved when a member that is not ready joined")
	}
	h.set(nil)
	r.until("it has its share", func() bool { return share() && len(of(r.holders(), "c")) > 0 })
	if m := w.member("c"); m.State != "active" || len(m.Slots) != 1 {
		t.Errorf("when it is ready: %+v", m)
	}
}

func TestAGroupThatStartsUnreadyWorksAllTheSame(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(30)
	for _, id := range []string{"a", "b"} {
		w.start(w.probed(id, r, (&health{err: errSick}).ready))
	}
	r.until("two members that are not ready share 30", func() bool {
		return len(r.holders()) == 30 && settled(t, w) && len(of(r.holders(), "a")) > 0 && len(of(r.holders(), "b")) > 0
	})
}

func TestReadyMayDoWhateverItLikes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		ready  func(context.Context) error
		reason string
	}{
		"panics":           {func(context.Context) error { panic("oh") }, "panic: oh"},
		"ends its routine": {func(context.Context) error { runtime.Goexit(); return nil }, "runtime.Goexit"},
		"has a bad error":  {func(context.Context) error { return (*badError)(nil) }, "whose Error method panics"},
		"says nothing":     {func(context.Context) error { return &badError{} }, "did not say why"},
		"is slow": {
			func(ctx context.Context) error { <-ctx.Done(); return nil },
			"1s", // on a busy machine, it seems to hang
		},
		"has much to say": {
			func(context.Context) error { return errors.New(strings.Repeat("x", 1<<20)) },
			strings.Repeat("x", 256) + "…",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, r := newWorld(t), newRecorder(t)
			w.catalogueOf(30)
			w.start(w.config("a", r))
			var bad atomic.Bool
			w.start(w.probed("b", r, func(ctx context.Context) error {
				if bad.Load() {
					return tt.ready(ctx)
				}
				return nil
			}))
			share := func() bool { return len(r.holders()) == 30 && settled(t, w) }
			r.until("both share 30", func() bool { return share() && len(of(r.holders(), "b")) > 0 })
			bad.Store(true)
			r.until("b has nothing", func() bool { return share() && len(of(r.holders(), "b")) == 0 })
			if m := w.member("b"); !strings.Contains(m.Reason, tt.reason) {
				t.Errorf("the reason is %q, want %q", m.Reason, tt.reason)
			}
			bad.Store(false)
			r.until("both share 30 again", func() bool { return share() && len(of(r.holders(), "b")) > 0 })
		})
	}
}

// badError is an error whose methods fail.
type badError struct{ text string }

func (e *badError) Error() string { return e.text } // panics for nil

// A Ready that ignores its context is called once, not again and again, and nothing waits for it.
func TestAReadyThatHangsCountsAsFailedAndKeepsNobody(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(30)
	w.start(w.config("a", r))
	var hang atomic.Bool
	var running, most, calls atomic.Int32
	free := make(chan struct{})
	defer close(free)
	observed, logs := observer.New(zap.InfoLevel)
	cfg := w.probed("b", r, func(context.Context) error {
		now := running.Add(1)
		defer running.Add(-1)
		most.Store(max(most.Load(), now))
		calls.Add(1)
		if hang.Load() {
			<-free
		}
		return nil
	})
	cfg.Logger = zap.New(observed)
	b := w.startOnly(cfg)
	share := func() bool { return len(r.holders()) == 30 && settled(t, w) }
	r.until("both share 30", func() bool { return share() && len(of(r.holders(), "b")) > 0 })
	hang.Store(true)
	r.until("b has nothing", func() bool { return share() && len(of(r.holders(), "b")) == 0 })
	hung := calls.Load()
	r.until("it says that the call has not returned", func() bool {
		reason := w.member("b").Reason
		return reason == "no answer within 1s" || strings.Contains(reason, "does not return")
	})
	w.stop(b) // it fails the test if anything keeps it
	if most.Load() != 1 || calls.Load() != hung {
		t.Errorf("%d calls at once, and %d after it hung", most.Load(), calls.Load()-hung)
	}
	if len(logged(t, logs, "a call of Ready has not returned", 1)) != 1 {
		t.Errorf("logged: %v", logs.All())
	}
}

func TestAStartWaitsForReadyNoLongerThanForOneAnswer(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(10)
	free := make(chan struct{})
	defer close(free)
	began := time.Now()
	b := w.startOnly(w.probed("b", r, func(context.Context) error { <-free; return nil }))
	if took := time.Since(began); took > soon {
		t.Errorf("the start took %v", took)
	}
	if m := w.member("b"); m.Reason != "no answer within 1s" && !strings.Contains(m.Reason, "does not return") {
		t.Errorf("after the start: %+v", m)
	}
	r.until("it is alone, and so it works", allHeld(r, 10))
	w.stop(b)
}

// history follows what a member's key says.
func (w *world) history(id string) (states func() []membership.State, stop func()) {
	w.tb.Helper()
	key := keys.New(drm.DefaultPrefix, w.app).Member(id)
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	var all []membership.State
	watch := w.etcd.Watch(ctx, key, clientv3.WithCreatedNotify())
	<-watch
	var wg sync.WaitGroup
	wg.Go(func() {
		for resp := range watch {
			for _, ev := range resp.Events {
				for _, state := range []membership.State{membership.Joining, membership.Active, membership.Unready} {
					if strings.Contains(string(ev.Kv.Value), fmt.Sprintf(`"state":%q`, state)) {
						mu.Lock()
						all = append(all, state)
						mu.Unlock()
					}
				}
			}
		}
	})
	states = func() []membership.State {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
	return states, func() { cancel(); wg.Wait() }
}

func TestAMemberThatRegistersAnewIsStillUnready(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(30)
	all := w.healthy(r, "a", "b")
	share := func() bool { return len(r.holders()) == 30 && settled(t, w) }
	r.until("both share 30", func() bool { return share() && len(of(r.holders(), "b")) > 0 })
	before := r.holders()
	all["b"].set(errSick)
	r.until("b has nothing", func() bool { return share() && len(of(r.holders(), "b")) == 0 })
	states, stop := w.history("b")
	defer stop()
	key := keys.New(drm.DefaultPrefix, w.app).Member("b")
	was, err := w.etcd.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.etcd.Revoke(t.Context(), clientv3.LeaseID(was.Kvs[0].Lease)); err != nil {
		t.Fatal(err)
	}
	r.until("b is back", func() bool { return len(states()) > 0 && w.member("b").State == "unready" })
	if _, err := w.etcd.Put(t.Context(), key, "nonsense"); err != nil { // somebody overwrites its key by hand
		t.Fatal(err)
	}
	r.until("b has put its key again", func() bool { return len(states()) > 1 && w.member("b").State == "unready" })
	if got := states(); slices.Contains(got, membership.Active) {
		t.Errorf("its key said %v, though it was never ready", got)
	}
	all["b"].set(nil)
	r.until("b has what it had", func() bool { return share() && maps.Equal(r.holders(), before) })
}

// Whether a member is ready reaches the others in the end, whatever becomes of the requests that say so.
func TestReadinessIsToldWhateverBecomesOfTheRequests(t *testing.T) {
	t.Parallel()
	for _, f := range []fault{loseAnswer, loseRequest, beLate, refuse} {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			w, r := newWorld(t), newRecorder(t)
			w.catalogueOf(30)
			w.start(w.config("a", r))
			q, h := newRequests(w.app), &health{}
			var spoiling atomic.Bool
			var spoilt atomic.Int32
			q.spoil = func(k kind, _, _ int) fault {
				if k == setStates && spoiling.Load() && spoilt.Add(1)%3 != 0 {
					return f
				}
				return noFault
			}
			cfg := w.probed("b", r, h.ready)
			cfg.Etcd = drm.EtcdConfig{Client: q.client(t, w.endpoint), CommandTimeout: time.Second}
			w.start(cfg)
			share := func() bool { return len(r.holders()) == 30 && settled(t, w) }
			r.until("both share 30", func() bool { return share() && len(of(r.holders(), "b")) > 0 })
			before := r.holders()
			spoiling.Store(true)
			h.set(errSick)
			r.until("b has nothing", func() bool {
				return share() && len(of(r.holders(), "b")) == 0 && w.member("b").State == "unready"
			})
			h.set(nil)
			r.until("b has what it had", func() bool { return share() && maps.Equal(r.holders(), before) })
			spoiling.Store(false)
			if spoilt.Load() == 0 {
				t.Error("nothing was spoilt")
			}
		})
	}
}

func TestAnUnreadyMemberLeavesTheOfficeToAReadyOneWhileThereIsOne(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource(ids(10)...)
	withSource := func(id string, h *health) drm.Config {
		cfg := w.probed(id, r, h.ready)
		cfg.AllocateOnly, cfg.Retriever, cfg.PollInterval = false, src, 100*time.Millisecond
		return cfg
	}
	first := w.startOnly(withSource("a", &health{}))
	r.until("a coordinates, and handles all", allHeld(r, 10))
	sick := &health{err: errSick}
	w.start(withSource("b", sick))
	w.start(withSource("c", &health{}))
	r.until("three are there", func() bool { return settled(t, w) && w.member("c").State == "active" })
	coordinator := func() string {
		s, err := w.client().Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.Coordinator
	}
	w.stop(first)
	r.until("somebody coordinates", func() bool { return coordinator() != "" })
	if got := coordinator(); got != "c" {
		t.Errorf("%s coordinates, want c, which is ready", got)
	}
	drained := keys.New(drm.DefaultPrefix, w.app).Member("c")
	was, err := w.etcd.Get(t.Context(), drained)
	if err != nil {
		t.Fatal(err)
	}
	// Take the ready one away without a word: an unready member asks the source as well as any other.
	if _, err := w.etcd.Revoke(t.Context(), clientv3.LeaseID(was.Kvs[0].Lease)); err != nil {
		t.Fatal(err)
	}
	src.set(resources(ids(12)...), nil)
	r.until("the source is asked", allHeld(r, 12))
}
