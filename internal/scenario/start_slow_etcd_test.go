package scenario_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// Where etcd has too much to do, many requests of a start, of any kind, are not answered in time. The start goes on all
// the same.
func TestAStartGoesOnWhileEtcdIsSlow(t *testing.T) {
	t.Parallel()
	for _, f := range []fault{loseRequest, loseAnswer, beLate} {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			w, r := newWorld(t), newRecorder(t)
			q := newRequests(w.app)
			var started atomic.Bool
			q.spoil = func(k kind, ofKind, _ int) fault {
				if started.Load() || k == probes || k == keepalives || k == watches ||
					!slices.Contains([]int{1, 2, 4, 5, 8, 9}, ofKind) {
					return noFault
				}
				return f
			}
			cfg := w.config("a", r)
			// On a busy machine, etcd may itself be slow. One that answers nothing for so long would not be there.
			cfg.Etcd = drm.EtcdConfig{
				Client: q.client(t, w.endpoint), CommandTimeout: time.Second, DialTimeout: 15 * time.Second,
			}
			w.start(cfg)
			if n := q.injected(); n < 6 {
				t.Errorf("%d requests were spoilt", n)
			}
			started.Store(true)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			c := w.client() // this client has longer timeouts
			if err := c.Allocate(ctx, drm.Resource{ID: "x"}); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Wait(ctx, "x"); err != nil {
				t.Error(err)
			}
		})
	}
}

// An etcd that answers nothing does not count as slow, at whatever step of the start that begins.
func TestAStartEndsWhereEtcdAnswersNothing(t *testing.T) {
	t.Parallel()
	for _, k := range []kind{reads, createApp, grants, registers} {
		t.Run(string(k), func(t *testing.T) {
			w, r := newWorld(t), newRecorder(t)
			q := newRequests(w.app)
			gone := false
			var mu sync.Mutex
			q.spoil = func(is kind, _, _ int) fault {
				mu.Lock()
				defer mu.Unlock()
				if gone = gone || is == k; gone {
					return loseRequest
				}
				return noFault
			}
			cfg := w.config("a", r)
			cfg.Etcd = drm.EtcdConfig{
				Client: q.client(t, w.endpoint), CommandTimeout: 200 * time.Millisecond,
				DialTimeout: 200 * time.Millisecond,
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if m, err := w.tryStart(ctx, cfg); !errors.Is(err, drm.ErrUnreachable) {
				t.Errorf("%v, %v", m, err)
			}
		})
	}
}

// A lease that ends before the member is registered, because everything took so long, is replaced.
func TestAStartWhoseLeaseEndsGetsAnother(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	q := newRequests(w.app)
	q.spoil = func(k kind, ofKind, _ int) fault {
		if k == registers && ofKind == 1 {
			leases, err := w.etcd.Leases(context.Background())
			if err != nil {
				t.Error(err)
				return noFault
			}
			for _, l := range leases.Leases {
				if _, err := w.etcd.Revoke(context.Background(), l.ID); err != nil {
					t.Error(err)
				}
			}
		}
		return noFault
	}
	cfg := w.config("a", r)
	cfg.Etcd = drm.EtcdConfig{Client: q.client(t, w.endpoint), DialTimeout: patience}
	w.start(cfg)
	if n := q.count(registers); n < 2 {
		t.Errorf("%d registrations", n)
	}
}
