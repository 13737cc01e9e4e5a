package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

// byHand is an app of two members. An operator changes the keys of one of them.
type byHand struct {
	*world
	keys.Layout
	*ledger
	src    *source
	a, b   *drm.Manager
	wanted []string
}

// delete deletes a key, which must be there.
func (h *byHand) delete(key string) {
	h.world.tb.Helper()
	resp, err := h.etcd.Delete(context.Background(), key)
	if err != nil || resp.Deleted != 1 {
		h.world.tb.Fatalf("delete %s: %+v, %v", key, resp, err)
	}
}

func (h *byHand) get(key string) *clientv3.GetResponse {
	h.world.tb.Helper()
	resp, err := h.etcd.Get(context.Background(), key)
	if err != nil {
		h.world.tb.Fatal(err)
	}
	return resp
}

// revoke revokes the lease of a key.
func (h *byHand) revoke(key string) {
	h.world.tb.Helper()
	if _, err := h.etcd.Revoke(context.Background(), clientv3.LeaseID(h.get(key).Kvs[0].Lease)); err != nil {
		h.world.tb.Fatal(err)
	}
}

// settle waits until all that is wanted is handled where it belongs, and nothing is wrong.
func (h *byHand) settle() {
	h.world.tb.Helper()
	h.until("all is as it should be", func() bool {
		found, err := h.client().Verify(context.Background())
		return err == nil && len(found) == 0 && h.each(h.wanted...) && settled(h.world.tb, h.world)
	})
}

// heldBy returns a resource that a member handles.
func (h *byHand) heldBy(m *drm.Manager) string {
	h.world.tb.Helper()
	held := m.Held()
	if len(held) == 0 {
		h.world.tb.Fatalf("%s holds nothing", m.ID())
	}
	return held[0].Resource
}

// eventually waits for the state of a key.
func (h *byHand) eventually(key string, there bool) {
	h.world.tb.Helper()
	h.until(fmt.Sprintf("%s is there: %v", key, there), func() bool { return len(h.get(key).Kvs) > 0 == there })
}

// An operator deletes each kind of key by hand, and revokes each kind of lease. In the end, each resource is handled by
// one member, and no token has fallen.
func TestKeysDeletedAndLeasesRevokedByHand(t *testing.T) {
	t.Parallel()
	server := embeddedtest.Server(t)
	for n, test := range []struct {
		name    string
		overlap bool // whether two may handle a resource until the members have heard of the damage
		prepare func(h *byHand)
		damage  func(h *byHand)
		then    func(h *byHand) // runs before everything must be well again
	}{
		{
			name: "member key", damage: func(h *byHand) { h.delete(h.Member("a")) },
			then: func(h *byHand) { h.eventually(h.Member("a"), true) },
		},
		{
			name: "member lease", damage: func(h *byHand) { h.revoke(h.Member("a")) },
			then: func(h *byHand) { h.eventually(h.Member("a"), true) },
		},
		{
			name: "slot", damage: func(h *byHand) { h.delete(h.Slot(0)) },
			then: func(h *byHand) { h.eventually(h.Slot(0), true) },
		},
		{name: "claim", overlap: true, damage: func(h *byHand) {
			id := h.heldBy(h.a)
			h.delete(h.Claim(shard.Of(id, 64), id))
		}},
		{name: "claim lease", overlap: true, damage: func(h *byHand) {
			id := h.heldBy(h.a)
			h.revoke(h.Claim(shard.Of(id, 64), id))
		}},
		{name: "both leases", overlap: true, damage: func(h *byHand) {
			id := h.heldBy(h.a)
			h.revoke(h.Claim(shard.Of(id, 64), id))
			h.revoke(h.Member("a"))
		}},
		{
			name: "drain",
			prepare: func(h *byHand) {
				if err := h.client().Drain(context.Background(), "a"); err != nil {
					h.world.tb.Fatal(err)
				}
				h.until("it holds nothing", func() bool { return len(h.a.Held()) == 0 && h.each(h.wanted...) })
			},
			damage: func(h *byHand) { h.delete(h.Drain("a")) },
			then:   func(h *byHand) { h.until("it has its share again", func() bool { return len(h.a.Held()) > 0 }) },
		},
		{name: "pin", prepare: func(h *byHand) {
			h.moveBy(h.Pin(h.shardOf("r0")), func(to string) string { return to })
		}, damage: func(h *byHand) { h.delete(h.Pin(h.shardOf("r0"))) }},
		{name: "placement", prepare: func(h *byHand) {
			h.moveBy(h.Placement(), func(to string) string { return fmt.Sprintf(`{"%d":%q}`, h.shardOf("r0"), to) })
		}, damage: func(h *byHand) { h.delete(h.Placement()) }},
		{name: "coordinator", damage: func(h *byHand) { h.delete(h.Coordinator()) }, then: func(h *byHand) {
			h.src.set(resources(append(ids(20), "new")...), nil)
			h.wanted = append(h.wanted, "new")
		}},
		{
			name: "source record", damage: func(h *byHand) { h.delete(h.Source()) },
			then: func(h *byHand) { h.eventually(h.Source(), true) },
		},
		{
			name: "deallocated mark",
			prepare: func(h *byHand) {
				if err := h.a.Deallocate(context.Background(), "r0"); err != nil {
					h.world.tb.Fatal(err)
				}
				h.wanted = slices.DeleteFunc(h.wanted, func(id string) bool { return id == "r0" })
			},
			damage: func(h *byHand) { h.delete(h.Deallocation("r0")) },
		},
		{name: "stats", prepare: func(h *byHand) { h.eventually(h.Stats("a"), true) }, damage: func(h *byHand) {
			h.delete(h.Stats("a"))
		}, then: func(h *byHand) {
			if err := h.client().Allocate(context.Background(), drm.Resource{ID: "new"}); err != nil {
				h.world.tb.Fatal(err)
			}
			h.wanted = append(h.wanted, "new")
		}},
		{
			name: "allocated entry", damage: func(h *byHand) { h.delete(h.Resource(h.shardOf("own"), "own")) },
			then: func(h *byHand) {
				h.wanted = slices.DeleteFunc(h.wanted, func(id string) bool { return id == "own" })
			},
		},
		{
			name: "source's entry", damage: func(h *byHand) { h.delete(h.Resource(h.shardOf("r0"), "r0")) },
			then: func(h *byHand) {
				h.until("it is not handled", func() bool { return !h.each(h.wanted...) })
				h.delete(h.Coordinator()) // a new term reads the catalogue anew; otherwise that happens after an hour
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := worldAt(t, server.Endpoint())
			w.app = fmt.Sprintf("app%d", n)
			h := &byHand{
				world: w, ledger: &ledger{tb: t}, src: newSource(ids(20)...), wanted: append(ids(20), "own"),
				Layout: keys.New(drm.DefaultPrefix, w.app),
			}
			all := w.members(h.ledger, h.src, "a", "b")
			h.a, h.b = all["a"], all["b"]
			if err := h.a.Allocate(t.Context(), drm.Resource{ID: "own"}); err != nil {
				t.Fatal(err)
			}
			h.settle()
			if test.prepare != nil {
				test.prepare(h)
			}
			from := time.Now()
			test.damage(h)
			if test.then != nil {
				test.then(h)
			}
			h.settle()
			gap, after, handled, overlaps := h.since(from)
			t.Logf("handled anew: %d, the last after %v; longest gap %v; overlaps %d", handled,
				after.Round(time.Millisecond), gap.Round(time.Millisecond), len(overlaps))
			if len(overlaps) > 0 && !test.overlap {
				t.Errorf("handled by two at once: %v", overlaps)
			}
		})
	}
}

func (h *byHand) shardOf(id string) int { return shard.Of(id, 64) }

// moveBy puts a key that gives r0 to the other member, and waits until that one handles it.
func (h *byHand) moveBy(key string, value func(to string) string) {
	h.world.tb.Helper()
	was, err := h.client().Lookup(context.Background(), "r0")
	if err != nil {
		h.world.tb.Fatal(err)
	}
	to := map[string]string{"a": "b", "b": "a"}[was.Member]
	if _, err := h.etcd.Put(context.Background(), key, value(to)); err != nil {
		h.world.tb.Fatal(err)
	}
	h.until("it has moved", func() bool {
		is, err := h.client().Lookup(context.Background(), "r0")
		return err == nil && is.Member == to && is.State == drm.StateActive
	})
}

func TestWithoutItsConfigKeyNobodyRewritesIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	layout := keys.New(drm.DefaultPrefix, "app")
	l, src := &ledger{tb: t}, newSource(ids(5)...)
	both := w.members(l, src, "a", "b")
	m := both["a"]
	l.until("all are handled", func() bool { return l.each(ids(5)...) && settled(t, w) })
	config, err := w.etcd.Get(t.Context(), layout.Config())
	if err != nil {
		t.Fatal(err)
	}
	from := time.Now()
	w.deleteKeys("app/config")
	src.set(resources(ids(6)...), nil)
	l.until("the source was asked again, twice", func() bool {
		_, before, _ := src.counts()
		l.until("once", func() bool { _, n, _ := src.counts(); return n > before })
		return true
	})
	if err := m.Allocate(t.Context(), drm.Resource{ID: "x"}); !errors.Is(err, drm.ErrAppGone) {
		t.Errorf("Allocate: %v", err)
	}
	found, err := w.client().Verify(t.Context())
	if err != nil || len(found) != 1 || found[0].Kind != drm.ViolationNoConfig {
		t.Errorf("Verify found %+v, %v", found, err)
	}
	if _, _, handled, _ := l.since(from); handled != 0 || !l.each(ids(5)...) {
		t.Errorf("%d were handled anew; want the five that were held to go on", handled)
	}
	if resp, err := w.etcd.Get(t.Context(), layout.Config()); err != nil || len(resp.Kvs) != 0 {
		t.Errorf("the key was rewritten: %v, %v", resp, err)
	}
	// The config is put back, and a new member starts. It takes over when the others have gone.
	if _, err := w.etcd.Put(t.Context(), layout.Config(), string(config.Kvs[0].Value)); err != nil {
		t.Fatal(err)
	}
	w.stop(m)
	w.stop(both["b"])
	w.members(l, src, "c")
	l.until("what the source has is handled again", func() bool { return l.each(ids(6)...) || l.each(ids(5)...) })
	if found, err := w.client().Verify(t.Context()); err != nil ||
		slices.ContainsFunc(found, func(v drm.Violation) bool { return v.Kind == drm.ViolationNoConfig }) {
		t.Errorf("Verify found %+v, %v", found, err)
	}
}
