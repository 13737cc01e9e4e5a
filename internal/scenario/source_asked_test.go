package scenario_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// After a change of membership has settled, the source is asked once more, or, with CacheResources, not at all. This
// holds also where the coordinator goes.
func TestAChangeOfMembersAsksTheSourceOnceOrNotAtAll(t *testing.T) {
	t.Parallel()
	for _, cached := range []bool{false, true} {
		for name, change := range map[string]func(*world, func(string) *drm.Manager, map[string]*drm.Manager){
			"members join": func(_ *world, start func(string) *drm.Manager, _ map[string]*drm.Manager) {
				var wg sync.WaitGroup
				for i := range 4 {
					wg.Go(func() { start(fmt.Sprintf("new%d", i)) })
				}
				wg.Wait()
			},
			"the coordinator leaves": func(w *world, _ func(string) *drm.Manager, ms map[string]*drm.Manager) {
				w.stop(ms["a"])
			},
			"the coordinator is killed": func(w *world, _ func(string) *drm.Manager, ms map[string]*drm.Manager) {
				w.tb.Cleanup(w.probe(ms["a"]).Wedge()) // has the same effect as a death
			},
		} {
			t.Run(fmt.Sprintf("%s, cached %v", name, cached), func(t *testing.T) {
				t.Parallel()
				w, r := newWorld(t), newRecorder(t)
				src := newSource(ids(6)...)
				var last atomic.Pointer[time.Time] // when the source was asked last
				src.onFetch = func(context.Context) { now := time.Now(); last.Store(&now) }
				delay := 2 * time.Second // no member takes as long to join
				if cached {
					delay = 50 * time.Millisecond
				}
				start := func(id string) *drm.Manager {
					// Each has a recorder of its own, since a member that is killed does not say what it ended.
					cfg := w.config(id, newRecorder(t))
					cfg.AllocateOnly, cfg.Retriever, cfg.CacheResources, cfg.SettleDelay = false, src, cached, delay
					if id == "a" && strings.Contains(name, "killed") {
						cfg.LeaseTTL = 3 * time.Second
					}
					return w.start(cfg)
				}
				fetches := 1
				asked := func() bool { _, n, _ := src.counts(); return n >= fetches }
				ms := map[string]*drm.Manager{}
				for _, id := range []string{"a", "b"} {
					ms[id] = start(id)
					r.until("the source has been asked", asked)
					if !cached {
						fetches = 2
					}
				}
				r.until("the source has been asked because of b", asked)
				r.until("two share all", func() bool { return settled(t, w) })

				began := time.Now()
				change(w, start, ms)
				if !cached {
					fetches++
				}
				r.until("the source has been asked as often as it must", asked)
				c := w.client()
				r.until("the group is another one, and has a coordinator", func() bool {
					s, err := c.Status(t.Context())
					return err == nil && s.Members != 2 && s.Coordinator != "" &&
						(s.Coordinator == "a") == strings.Contains(name, "join")
				})
				if after := last.Load().Sub(began); !cached && after < delay {
					t.Errorf("the source was asked %v after the change, which has not settled before %v", after, delay)
				}
				src.staysAt(t, fetches, max(2*delay, time.Second))
			})
		}
	}
}

// A group that begins anew asks its source at once: the source's last answer was to another group.
func TestAGroupThatBeginsAnewAsksTheSource(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource("x")
	cfg := w.config("a", r)
	cfg.AllocateOnly, cfg.Retriever, cfg.CacheResources = false, src, true
	m := w.start(cfg)
	r.until("it is handled", allHeld(r, 1))
	w.stop(m)
	src.set(resources("x", "y"), nil)
	w.start(cfg)
	r.until("what came meanwhile is handled", allHeld(r, 2))
}

// A Refetch is not lost where there is no coordinator.
func TestNewsThatCameBeforeTheOfficeMakeTheSourceBeAsked(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource("x")
	ms := map[string]*drm.Manager{}
	for _, id := range []string{"a", "b"} {
		cfg := w.config(id, r)
		cfg.AllocateOnly, cfg.Retriever, cfg.CacheResources = false, src, true
		ms[id] = w.start(cfg)
	}
	r.until("it is handled", allHeld(r, 1))
	src.set(resources("x", "y"), nil)
	ms["b"].Refetch()
	w.stop(ms["a"])
	r.until("what is new is handled", allHeld(r, 2))
}

func TestANewCoordinatorPollsWhenThePollIsDue(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource("x")
	ms := map[string]*drm.Manager{}
	for _, id := range []string{"a", "b"} {
		cfg := w.config(id, r)
		cfg.AllocateOnly, cfg.Retriever, cfg.CacheResources = false, src, true
		cfg.PollInterval = 300 * time.Millisecond
		ms[id] = w.start(cfg)
	}
	r.until("it is handled", allHeld(r, 1))
	w.stop(ms["a"])
	src.set(resources("x", "y"), nil)
	r.until("what is new is handled", allHeld(r, 2))
}
