package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

// A request of each kind, in turn, is lost on its way, or its answer is lost, or it is carried out when nobody waits
// for it any more. No resource is handled twice at once, none is forgotten, and no key is left behind.
func TestWhateverIsLostEverythingIsHandledOnce(t *testing.T) {
	t.Parallel()
	server := embeddedtest.Server(t)
	etcd := embeddedtest.Client(t, server.Endpoint())
	for n, k := range []kind{
		createApp, claims, releases, states, trails, registers, setStates, stands, resigns,
		catalogues, allocates, suspends, records, grants, keepalives, revokes,
	} {
		for _, f := range []fault{loseAnswer, loseRequest, beLate} {
			if k == keepalives && f == beLate {
				continue // a keepalive cannot be late: it goes with its stream
			}
			t.Run(fmt.Sprintf("%s/%s", k, f), func(t *testing.T) {
				t.Parallel()
				app := fmt.Sprintf("app%d-%d", n, f)
				q := newRequests(app)
				q.spoil = func(is kind, ofKind, _ int) fault {
					if is == k && ofKind <= 2 {
						return f
					}
					return noFault
				}
				w := &world{tb: t, endpoint: server.Endpoint(), etcd: etcd, app: app}
				q.awaited = k == keepalives
				w.liveThrough(q)
				if q.injected() == 0 {
					t.Error("there was no such request")
				}
			})
		}
	}
}

// liveThrough lets members and resources come and go, over clients whose requests q sees. Then it checks that
// everything is as it should be.
func (w *world) liveThrough(q *requests) {
	t := w.tb
	// The recorder fails the test if two members handle a resource at once.
	r, src := newRecorder(t), newSource(ids(12)...)
	config := func(id string, src *source) drm.Config {
		cfg := w.config(id, r)
		cfg.LeaseTTL = 2 * time.Second
		cfg.Etcd = drm.EtcdConfig{Client: q.client(t, w.endpoint), CommandTimeout: 250 * time.Millisecond}
		if src != nil {
			cfg.AllocateOnly, cfg.Retriever, cfg.PollInterval = false, src, 100*time.Millisecond
		}
		return cfg
	}
	plain := w.startAgain(config("plain", nil)) // it coordinates until a member with a source comes
	r.until("the one without a source coordinates", func() bool {
		s, err := w.client().Status(context.Background())
		return err == nil && s.Coordinator == "plain"
	})
	a := w.startAgain(config("a", src))
	again := func(what string, f func(context.Context) error) {
		t.Helper()
		r.until(what, func() bool {
			err := f(context.Background())
			// A second attempt finds nothing where only the answer to the first was lost.
			return err == nil || errors.Is(err, drm.ErrNotFound)
		})
	}
	for _, id := range []string{"x1", "x2", "x3"} {
		again("allocate", func(ctx context.Context) error { return plain.Allocate(ctx, drm.Resource{ID: id}) })
	}
	r.until("15 are handled by two", func() bool { return len(r.holders()) == 15 && settled(t, w) })
	// This does not deallocate x1: an attempt to allocate x1 that was given up may be carried out later (see Allocate).
	again("deallocate", func(ctx context.Context) error { return a.Deallocate(ctx, "x3") })
	again("deallocate", func(ctx context.Context) error { return plain.Deallocate(ctx, "r1") })
	r.until("13 are handled by two", func() bool { return len(r.holders()) == 13 && settled(t, w) })
	src.set(resources(ids(10)...), nil)
	b := w.startAgain(config("b", src))
	w.stop(plain)
	want := map[string]bool{"x1": true, "x2": true}
	for _, id := range ids(10) {
		want[id] = id != "r1"
	}
	as := func() bool {
		held := r.holders()
		for id := range held {
			if !want[id] {
				return false
			}
		}
		return len(held) == 11 && settled(t, w)
	}
	r.until("what is wanted is handled, and nothing else", as)
	if q.awaited { // the fault comes by itself after some time
		r.until("the fault has come", func() bool { return q.injected() > 0 })
		r.until("what is wanted is handled still", as)
	}
	var found []drm.Violation
	r.until("nothing is wrong", func() bool {
		var err error
		found, err = w.client().Verify(context.Background())
		return err == nil && len(found) == 0
	})
	w.stop(a)
	r.until("one has it all", as)
	w.stop(b)
	q.late.Wait()
	// Where the revocation of its lease was lost, or took longer than the short CommandTimeout, a life is remembered
	// for minutes. TestAContextThatEndsAtAnyRequestOfStartLeavesNothingBehind looks at lives too.
	lives := "/drm/" + w.app + "/lives/"
	gone, err := w.etcd.Delete(context.Background(), lives, clientv3.WithPrefix(), clientv3.WithPrevKV())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range gone.PrevKvs {
		if kv.Lease == 0 {
			t.Errorf("%s stays for ever", kv.Key)
		}
	}
	w.nothingLeftBehind()
}

// nothingLeftBehind fails the test if etcd has keys that should have gone with a member, although there is no member.
func (w *world) nothingLeftBehind() {
	w.tb.Helper()
	root := "/drm/" + w.app + "/"
	deadline := time.Now().Add(patience)
	for {
		var left []string
		resp, err := w.etcd.Get(context.Background(), root, clientv3.WithPrefix())
		if err != nil {
			w.tb.Fatal(err)
		}
		for _, kv := range resp.Kvs {
			if kv.Lease != 0 || strings.Contains(string(kv.Key), "/claims/") ||
				strings.Contains(string(kv.Key), "/members/") {
				left = append(left, string(kv.Key))
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) { // keys that could not be given back go when their lease expires
			w.tb.Fatalf("left behind: %v", left)
		}
		<-time.After(50 * time.Millisecond)
	}
}
