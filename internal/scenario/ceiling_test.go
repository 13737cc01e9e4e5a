package scenario_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	claimed "github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// ceilings watches the claims of an app, and fails when a member has more of them than it may have.
type ceilings struct {
	t    *testing.T
	most map[string]int

	mu    sync.Mutex
	owner map[string]string // claim's key → member
	has   map[string]int
	over  bool
}

// watchCeilings watches until the test ends.
func (w *world) watchCeilings(t *testing.T, most map[string]int) *ceilings {
	t.Helper()
	c := &ceilings{t: t, most: most, owner: map[string]string{}, has: map[string]int{}}
	layout := keys.New(drm.DefaultPrefix, w.app)
	ctx, cancel := context.WithCancel(context.Background())
	watch := w.etcd.Watch(ctx, layout.Shards(), clientv3.WithPrefix(), clientv3.WithRev(1))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for resp := range watch {
			c.take(layout, resp.Events)
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return c
}

func (c *ceilings) take(layout keys.Layout, events []*clientv3.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ev := range events {
		key := string(ev.Kv.Key)
		if layout.Parse(key).Kind != keys.Claim {
			continue
		}
		c.has[c.owner[key]]--
		delete(c.owner, key)
		if ev.Type == mvccpb.DELETE {
			continue
		}
		record, err := claimed.Decode(ev.Kv.Value)
		if err != nil {
			c.t.Errorf("claim %q: %v", key, err)
			continue
		}
		c.owner[key] = record.Member
		c.has[record.Member]++
		if most, bound := c.most[record.Member]; bound && c.has[record.Member] > most && !c.over {
			c.over = true
			c.t.Errorf("%s has %d claims, and may have %d", record.Member, c.has[record.Member], most)
		}
	}
}

func TestAFullMemberLetsOthersTakeTheRestAndNobodyHasMoreThanItMay(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.catalogueIn(120, 1024) // most shards have one resource at most, so that each member can be quite full
	most := map[string]int{"a": 25, "b": 40, "c": 30}
	w.watchCeilings(t, most)
	member := func(id string) *drm.Manager {
		cfg := w.config(id, r)
		cfg.MaxResources, cfg.Shards = most[id], 0
		return w.startOnly(cfg)
	}
	client := w.client()
	status := func() drm.Status {
		s, err := client.Status(t.Context())
		if err != nil {
			t.Logf("status: %v", err)
		}
		return s
	}
	a := member("a")
	r.until("a is full, and says so", func() bool {
		s := status()
		return s.Active == 25 && s.NoRoom == 95 && s.Unassigned == 95
	})
	lacking, err := client.Assignments(t.Context(), drm.AssignmentFilter{Unassigned: true})
	if err != nil || len(lacking) != 95 || !strings.Contains(lacking[0].Error, "full (MaxResources)") {
		t.Fatalf("%d are unassigned, %v: %+v", len(lacking), err, lacking[0])
	}
	_ = waitSays(t, "no room", func(ctx context.Context) error {
		_, err := client.Wait(ctx, lacking[0].Resource)
		return err
	})
	b, c := member("b"), member("c")
	r.until("all three are full", func() bool { s := status(); return s.Active == 95 && s.NoRoom == 25 })
	for _, m := range []struct {
		m    *drm.Manager
		most int
	}{{a, 25}, {b, 40}, {c, 30}} {
		if n := len(m.m.Held()); n != m.most {
			t.Errorf("%s has %d, want %d", m.m.ID(), n, m.most)
		}
	}
	handled := len(r.all())
	d := member("d") // takes whatever it gets
	r.until("all are handled", func() bool { return status().Active == 120 })
	if moved := len(r.all()) - handled; moved > 3*120 {
		t.Errorf("%d calls until the new member has what was left", moved)
	}
	w.stop(d)
	r.until("the others are full again", func() bool { s := status(); return s.Active == 95 && s.NoRoom == 25 })
	w.stop(b)
	r.until("those that are left are full", func() bool { s := status(); return s.Active == 55 && s.NoRoom == 65 })
	for _, m := range []*drm.Manager{a, c} {
		w.stop(m)
	}
	if left := r.holders(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestAMemberThatHasRoomAgainTakesItsShardsBack(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(60)
	cfg := w.config("a", r)
	cfg.MaxResources = 50
	a := w.startOnly(cfg)
	layout := keys.New(drm.DefaultPrefix, w.app)
	declines := func() bool {
		resp, err := w.etcd.Get(t.Context(), layout.Decline("a"), clientv3.WithCountOnly())
		return err != nil || resp.Count > 0
	}
	r.until("a is full, and says so", func() bool { return len(a.Held()) == 50 && declines() })
	b := w.startOnly(w.config("b", r))
	r.until("all are handled", func() bool { return len(a.Held())+len(b.Held()) == 60 })
	r.until("a declines nothing any more", func() bool { return !declines() })
	shares := []int{len(a.Held()), len(b.Held())}
	slices.Sort(shares)
	r.until("all are handled still", func() bool { return len(a.Held())+len(b.Held()) == 60 })
	if shares[0] < 10 {
		t.Errorf("the shares are %v", shares)
	}
	w.stop(a)
	w.stop(b)
}
