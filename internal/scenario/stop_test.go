package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

func TestAllWhoCallStopGetTheSameAnswer(t *testing.T) {
	t.Parallel()
	const callers, n = 8, 10
	for _, hangs := range []bool{false, true} {
		t.Run(fmt.Sprintf("a Terminate hangs: %v", hangs), func(t *testing.T) {
			t.Parallel()
			w, r := newWorld(t), newRecorder(t)
			entered, release := make(chan struct{}), make(chan struct{})
			r.onTerminate = func(_ context.Context, c drm.Claim) error {
				if hangs && c.Resource.ID == "r0" {
					close(entered) // a second time would panic
					<-release
				}
				return nil
			}
			cfg := w.config("a", r)
			cfg.AllocateOnly, cfg.Retriever = false, newSource(ids(n)...)
			m, err := w.tryStart(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			r.until("all are handled", allHeld(r, n))
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if hangs {
				go func() { <-entered; cancel() }()
			}
			answers := make([]error, callers+1)
			var wg sync.WaitGroup
			for i := range callers {
				wg.Go(func() { answers[i] = m.Stop(ctx) })
			}
			wg.Wait()
			close(release)
			if (answers[0] != nil) != hangs {
				t.Errorf("Stop: %v", answers[0])
			}
			answers[callers] = m.Stop(t.Context())
			for _, err := range answers {
				if !errors.Is(err, answers[0]) {
					t.Errorf("Stop says %v to one, and %v to another", answers[0], err)
				}
			}
			r.until("all have ended", allHeld(r, 0))
			for _, id := range ids(n) {
				if calls := r.count("terminate", id); calls != 1 {
					t.Errorf("%s was terminated %d times", id, calls)
				}
			}
		})
	}
}

// A start may be given up at any moment. Here the context ends at each of its requests to etcd, in turn.
func TestAContextThatEndsAtAnyRequestOfStartLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	server := embeddedtest.Server(t)
	etcd := embeddedtest.Client(t, server.Endpoint())
	for nth := 1; ; nth++ {
		w, r := &world{tb: t, endpoint: server.Endpoint(), etcd: etcd, app: fmt.Sprintf("app%d", nth)}, newRecorder(t)
		ctx, cancel := context.WithCancel(t.Context())
		q := newRequests(w.app)
		q.spoil = func(_ kind, _, ofAll int) fault {
			if ofAll == nth {
				cancel()
			}
			return noFault
		}
		cfg := w.config("a", r)
		cfg.LeaseTTL = time.Minute // a key that is left to expire would stay for longer than the test waits
		cfg.Etcd = drm.EtcdConfig{Client: q.client(t, w.endpoint), DialTimeout: patience}
		cfg.AllocateOnly, cfg.Retriever = false, newSource(ids(3)...)
		m, err := w.tryStart(ctx, cfg)
		cancel()
		if err == nil {
			w.stop(m)
		} else if !errors.Is(err, context.Canceled) {
			t.Errorf("at request %d: %v", nth, err)
		}
		if held := r.holders(); len(held) > 0 {
			t.Errorf("at request %d: %v are handled", nth, held)
		}
		w.nothingLeftBehind()
		if err == nil {
			t.Logf("%d requests of a start", nth-1)
			if nth < 20 {
				t.Errorf("it started though its context ended at request %d", nth)
			}
			return
		}
	}
}
