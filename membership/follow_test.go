package membership_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm/membership"
)

// views collects the views that Follow reports.
type views struct {
	news chan struct{} // holds a token when there is a new view

	mu  sync.Mutex
	all []*membership.View
}

// follow follows the group until the test ends.
func (g *group) follow() *views {
	g.Helper()
	vs := &views{news: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := g.members.Follow(ctx, client, membership.FollowOptions{}, func(v *membership.View) {
			vs.mu.Lock()
			defer vs.mu.Unlock()
			vs.all = append(vs.all, v)
			select {
			case vs.news <- struct{}{}:
			default:
			}
		})
		if !errors.Is(err, context.Canceled) {
			g.Errorf("follow ended with %v", err)
		}
	}()
	g.Cleanup(func() {
		cancel()
		<-done
	})
	return vs
}

func (vs *views) last() *membership.View {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	if len(vs.all) == 0 {
		return &membership.View{}
	}
	return vs.all[len(vs.all)-1]
}

func (vs *views) until(t *testing.T, what string, ok func(*membership.View) bool) *membership.View {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		v := vs.last()
		if ok(v) {
			return v
		}
		select {
		case <-vs.news:
		case <-deadline:
			t.Fatalf("waited in vain for %s; the last view is %+v", what, v)
		}
	}
}

func TestFollowShowsEachChange(t *testing.T) {
	g := newGroup(t)
	vs := g.follow()
	vs.until(t, "a first view", func(v *membership.View) bool { return v.Revision > 0 })
	a, b := g.join("a", 1), g.join("b", 1)
	vs.until(t, "both to own shards",
		func(v *membership.View) bool { return slices.Equal(owners(v), []string{"a", "b"}) })
	g.put(g.layout.Drain("b"), "")
	vs.until(t, "the drain", func(v *membership.View) bool {
		return v.StateOf("b") == membership.Draining && slices.Equal(owners(v), []string{"a"})
	})
	g.delete(g.layout.Drain("b"))
	if _, err := g.registrar("a").SetState(t.Context(), a, membership.Leaving); err != nil {
		t.Fatal(err)
	}
	vs.until(t, "a to leave", func(v *membership.View) bool { return slices.Equal(owners(v), []string{"b"}) })
	if won, err := g.registrar("b").StandForCoordinator(t.Context(), b); err != nil || !won {
		t.Fatalf("stand: %v, %v", won, err)
	}
	v := vs.until(t, "a coordinator", func(v *membership.View) bool { return v.Coordinator.ID == "b" })
	now := g.view()
	now.Revision = v.Revision // Read returns etcd's revision, and Follow that of the last change
	if diff := diffViews(now, v); diff != "" {
		t.Errorf("what Read says (-) and what Follow does (+):\n%s", diff)
	}
	g.revoke(b.Lease)
	vs.until(t, "b and its office to be gone", func(v *membership.View) bool {
		_, there := v.Members["b"]
		return !there && v.Coordinator == membership.Coordinator{}
	})
}

func TestFollowShowsThatAMemberDied(t *testing.T) {
	g := newGroup(t)
	vs := g.follow()
	g.join("a", 1)
	lease := g.grant(1)
	if _, err := g.registrar("b").Register(t.Context(), active(1), lease); err != nil {
		t.Fatal(err)
	}
	vs.until(t, "both", func(v *membership.View) bool { return len(v.Members) == 2 })
	v := vs.until(t, "the lease's end", func(v *membership.View) bool { return len(v.Members) == 1 })
	if !slices.Equal(v.Slots, []string{"a", "b"}) || !slices.Equal(owners(v), []string{"a"}) {
		t.Errorf("slots %q, owners %q", v.Slots, owners(v))
	}
	if _, err := client.Revoke(t.Context(), lease); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("the lease did not end: %v", err)
	}
}

func TestTheRevisionsOfFollowedViewsNeverFallAndEachViewIsExact(t *testing.T) {
	g := newGroup(t)
	vs := g.follow()
	var all errgroup.Group
	for n := range 4 {
		id := fmt.Sprint("m", n)
		all.Go(func() error {
			for range 3 {
				lease, err := client.Grant(t.Context(), 600)
				if err != nil {
					return err
				}
				reg, err := g.registrar(id).Register(t.Context(), active(1+n%2), lease.ID)
				if err != nil {
					return err
				}
				if reg, err = g.registrar(id).SetState(t.Context(), reg, membership.Leaving); err != nil {
					return err
				}
				if _, err := client.Revoke(t.Context(), reg.Lease); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	last := g.put(g.layout.Drain("end"), "")
	vs.until(t, "the last change", func(v *membership.View) bool { return v.Revision >= last })
	vs.mu.Lock()
	defer vs.mu.Unlock()
	for i, v := range vs.all {
		if i > 0 && v.Revision < vs.all[i-1].Revision {
			t.Fatalf("revision %d after %d", v.Revision, vs.all[i-1].Revision)
		}
		want, err := viewAt(g, v.Revision)
		if err != nil {
			t.Fatal(err)
		}
		if diff := diffViews(want, v); diff != "" {
			t.Fatalf("at revision %d it was (-) and it showed (+):\n%s", v.Revision, diff)
		}
	}
}

// viewAt returns the group as it was at a revision.
func viewAt(g *group, revision int64) (*membership.View, error) {
	resp, err := client.Get(g.Context(), g.layout.Group(), clientv3.WithPrefix(), clientv3.WithRev(revision))
	if err != nil {
		return nil, err
	}
	return g.members.View(resp.Kvs, revision), nil
}
