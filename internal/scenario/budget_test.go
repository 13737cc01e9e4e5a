package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// clocked notes when Handle is called for the resources of each key.
type clocked struct {
	mu sync.Mutex
	at map[string][]time.Time
}

func (c *clocked) note(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at == nil {
		c.at = map[string][]time.Time{}
	}
	c.at[key] = append(c.at[key], time.Now())
}

// checkRates checks that no window of time has more calls than a rate allows. A call may be noted late, by up to the
// slack, so that it comes together with later ones.
func (c *clocked) checkRates(t *testing.T, rate, burst float64, slack time.Duration) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, all := range c.at {
		for i := range all {
			for j := i; j < len(all); j++ {
				took := all[j].Sub(all[i])
				if allowed := burst + rate*(took+slack).Seconds(); float64(j-i+1) > allowed {
					t.Errorf("key %s: %d calls within %v, want at most %.1f", key, j-i+1, took, allowed)
					return
				}
			}
		}
	}
}

// keyOfRest returns the rest of an id's number by 2 as its key.
func keyOfRest(r drm.Resource) string {
	n := 0
	_, _ = fmt.Sscanf(r.ID, "r%d", &n)
	return fmt.Sprint(n % 2)
}

func TestNoKeyIsHandledFasterThanItsRateWhenMembersComeAndGo(t *testing.T) {
	const rate, burst, n = 60, 6, 300
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(n)
	var times clocked
	r.onHandle = func(_ context.Context, c drm.Claim) error {
		times.note(keyOfRest(c.Resource))
		return nil
	}
	member := func(id string) *drm.Manager {
		cfg := w.config(id, r)
		cfg.KeyRate, cfg.BudgetKey = drm.Rate{PerSecond: rate, Burst: burst}, keyOfRest
		return w.startOnly(cfg)
	}
	members := []*drm.Manager{member("a")}
	held := func(want int) func() bool {
		return func() bool {
			all := 0
			for _, m := range members {
				all += len(m.Held())
			}
			return all >= want
		}
	}
	r.until("some are handled", held(n/10))
	members = append(members, member("b"), member("c")) // while most of them wait
	r.until("all are handled", held(n))
	w.stop(members[1]) // its third goes to the others
	members = slices.Delete(members, 1, 2)
	r.until("all are handled by those that stay", held(n))
	for _, m := range members {
		w.stop(m)
	}
	times.checkRates(t, rate, burst, time.Second)
	if testing.Verbose() {
		for key, all := range times.at {
			t.Logf("key %s: %d calls in %v", key, len(all), all[len(all)-1].Sub(all[0]))
		}
	}
}

func TestAResourceThatWaitsForItsBudgetSaysSoAndIsGivenUpAtOnce(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	cfg := w.config("a", r)
	cfg.HandleRate = drm.Rate{PerSecond: 0.001, Burst: 1}
	m, client := w.startOnly(cfg), w.client()
	allocate := func(id string) {
		t.Helper()
		if err := client.Allocate(t.Context(), drm.Resource{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	allocate("first")
	r.until("the first is handled", func() bool { return len(m.Held()) == 1 })
	allocate("second")
	r.until("the second says what it waits for", func() bool {
		a, err := client.Lookup(t.Context(), "second")
		if err != nil || !strings.Contains(a.Error, "waits for its turn") {
			return false
		}
		if a.State != drm.StateClaimed || a.Member != "a" {
			t.Errorf("the second is %+v", a)
		}
		return true
	})
	r.until("the status counts it", func() bool {
		s, err := client.Status(t.Context())
		return err == nil && s.WaitingForBudget == 1 && s.Active == 1
	})
	if err := client.Deallocate(t.Context(), "second"); err != nil {
		t.Fatal(err)
	}
	r.until("nobody has the second any more", func() bool {
		_, err := client.Lookup(t.Context(), "second")
		return errors.Is(err, drm.ErrNotFound)
	})
	r.until("the status counts nothing", func() bool {
		s, err := client.Status(t.Context())
		return err == nil && s.WaitingForBudget == 0
	})
	allocate("third")
	r.until("the third is claimed", func() bool {
		a, err := client.Lookup(t.Context(), "third")
		return err == nil && a.State == drm.StateClaimed
	})
	w.stop(m) // does not wait for a budget
}

func TestABudgetKeyThatHangsOrPanicsKeepsNothingElseWaiting(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	cfg := w.config("a", r)
	cfg.KeyRate = drm.Rate{PerSecond: 1000, Burst: 100}
	cfg.BudgetKey = func(r drm.Resource) string {
		switch r.ID {
		case "r0":
			<-hang
		case "r1":
			panic("no key")
		}
		return "k"
	}
	w.catalogueOf(20)
	m := w.startOnly(cfg)
	r.until("all are handled", func() bool { return len(m.Held()) == 20 })
	w.stop(m)
}
