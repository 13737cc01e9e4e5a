package scenario_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/shard"
)

// crowd is a world with a shard of many resources, and with the requests that a member sends to etcd.
type crowd struct {
	*world
	r     *recorder
	q     *requests
	shard int
	ids   []string
	m     *drm.Manager
}

// newCrowd starts a member that handles the resources: the first one first, and the others when the member is about to
// write the first one's state. That write does not reach etcd before all are handled, so the others go in one summary.
// spoil decides what becomes of that.
func newCrowd(t *testing.T, w *world, spoil func(ofKind int) fault) *crowd {
	t.Helper()
	c := &crowd{world: w, r: newRecorder(t), q: newRequests(w.app), shard: shard.Of("0", 64)}
	for n := 0; len(c.ids) < 12; n++ {
		if id := fmt.Sprint(n); shard.Of(id, 64) == c.shard {
			c.ids = append(c.ids, id)
		}
	}
	told, handled := make(chan struct{}), make(chan struct{})
	tell, release := sync.OnceFunc(func() { close(told) }), sync.OnceFunc(func() { close(handled) })
	t.Cleanup(release)
	c.q.spoil = func(is kind, ofKind, _ int) fault {
		switch is {
		case states:
			tell()
			<-handled
		case summaries:
			return spoil(ofKind)
		default:
		}
		return noFault
	}
	c.r.onHandle = func(ctx context.Context, claim drm.Claim) error {
		if claim.Resource.ID != c.ids[0] {
			select {
			case <-told:
			case <-ctx.Done():
			}
		}
		return ctx.Err()
	}
	c.m = c.member("a", newSource(c.ids...))
	c.r.until("all are handled", func() bool { return len(c.m.Held()) == len(c.ids) })
	release()
	c.active("the first time")
	return c
}

func (c *crowd) member(id string, src *source) *drm.Manager {
	c.tb.Helper()
	cfg := c.config(id, c.r)
	cfg.Etcd = drm.EtcdConfig{Client: c.q.client(c.tb, c.endpoint), CommandTimeout: 500 * time.Millisecond}
	if src != nil {
		cfg.AllocateOnly, cfg.Retriever = false, src
	}
	return c.start(cfg)
}

// active waits until all are active according to etcd.
func (c *crowd) active(when string) {
	c.tb.Helper()
	client := c.client()
	c.r.until("all are active, "+when, func() bool {
		s, err := client.Status(c.tb.Context())
		return err == nil && s.Active == len(c.ids)
	})
}

// summaries returns the keys of the shard's summaries.
func (c *crowd) summaries() []string {
	c.tb.Helper()
	resp, err := c.etcd.Get(c.tb.Context(), appLayout.Summaries(c.shard), clientv3.WithPrefix())
	if err != nil {
		c.tb.Fatal(err)
	}
	var all []string
	for _, kv := range resp.Kvs {
		all = append(all, string(kv.Key))
	}
	return all
}

func TestOneSummaryTellsOfManyClaims(t *testing.T) {
	t.Parallel()
	began := time.Now()
	c := newCrowd(t, newWorld(t), func(int) fault { return noFault })
	all := c.summaries()
	if len(all) != 1 {
		t.Fatalf("summaries: %q", all)
	}
	plain := 0
	for _, id := range c.ids {
		if value, _ := c.get(claimOf(id)); strings.Contains(value, `"state":"claimed"`) {
			plain++
		}
	}
	if plain != len(c.ids)-1 {
		t.Errorf("%d of %d claims were not written a second time, want all but one", plain, len(c.ids))
	}

	client := c.client()
	list, err := client.Assignments(t.Context(), drm.AssignmentFilter{})
	if err != nil || len(list) != len(c.ids) {
		t.Fatalf("%d assignments, %v", len(list), err)
	}
	for _, a := range list {
		one, err := client.Lookup(t.Context(), a.Resource)
		if err != nil || one != a {
			t.Errorf("looked up: %+v, %v; listed: %+v", one, err, a)
		}
		if a.State != drm.StateActive || a.Member != "a" || a.Since.Before(began.Add(-time.Second)) ||
			a.Since.After(time.Now().Add(time.Second)) {
			t.Errorf("%+v", a)
		}
		if _, err := client.Wait(t.Context(), a.Resource); err != nil {
			t.Error(err)
		}
	}
	if found, err := client.Verify(t.Context()); err != nil || len(found) != 0 {
		t.Errorf("%+v, %v", found, err)
	}

	for what, damage := range map[string]func(){
		"deleted by hand": func() {
			if _, err := c.etcd.Delete(t.Context(), all[0]); err != nil {
				t.Fatal(err)
			}
		},
		"garbage on its lease": func() {
			_, lease := c.get(all[0])
			c.put(all[0], "garbage", clientv3.WithLease(clientv3.LeaseID(lease)))
		},
		"without a lease": func() {
			value, _ := c.get(all[0])
			c.put(all[0], value)
		},
	} {
		before := c.q.count(summaries)
		damage()
		c.r.until("it is written again, "+what, func() bool {
			_, lease := c.get(all[0])
			return c.q.count(summaries) > before && lease != 0
		})
		c.active(what)
	}
	if got := c.r.count("terminate", c.ids[0]); got != 0 {
		t.Errorf("%d terminations", got)
	}

	// The summary goes with the shard, and with the member.
	b := c.member("b", nil)
	c.put(appLayout.Pin(c.shard), "b")
	c.r.until("the other member has all, and nothing is left of the first", func() bool {
		left := c.summaries()
		return len(b.Held()) == len(c.ids) && (len(left) == 0 || left[0] != all[0])
	})
	c.active("with another member")
	c.stop(c.m)
	c.stop(b)
	if left := c.summaries(); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestASummaryThatIsSpoiltIsWrittenAgain(t *testing.T) {
	t.Parallel()
	server := embeddedtest.Server(t)
	for _, f := range []fault{loseAnswer, loseRequest, beLate, refuse} {
		t.Run(f.String(), func(t *testing.T) {
			w := worldAt(t, server.Endpoint())
			w.app = fmt.Sprintf("app-%d", f)
			c := newCrowd(t, w, func(ofKind int) fault {
				if ofKind <= 2 {
					return f
				}
				return noFault
			})
			if c.q.injected() == 0 {
				t.Error("there was none")
			}
			if n := c.r.count("handle", c.ids[0]); n != 1 {
				t.Errorf("handled %d times", n)
			}
		})
	}
}
