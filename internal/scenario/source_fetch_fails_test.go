package scenario_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
)

func TestAnEtcdThatFailsIsNoSourceThatFails(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	var full atomic.Bool // makes etcd refuse writes of the catalogue, as if it had no space
	q := newRequests(w.app)
	q.spoil = func(k kind, _, _ int) fault {
		if full.Load() && (k == catalogues || k == records) {
			return refuse
		}
		return noFault
	}
	src := newSource(ids(5)...)
	observed, logs := observer.New(zap.WarnLevel)
	cfg := w.config("a", r)
	cfg.Etcd = drm.EtcdConfig{Client: q.client(t, w.endpoint), DialTimeout: patience}
	cfg.AllocateOnly, cfg.Retriever, cfg.PollInterval = false, src, 100*time.Millisecond
	cfg.SourcePolicy, cfg.FetchRetryBudget = drm.ExitOnSourceError, time.Millisecond
	cfg.Logger = zap.New(observed)
	cfg.OnSourceError = func(err error) { t.Errorf("OnSourceError was told %v", err) }
	m := w.start(cfg)
	r.until("five are handled", allHeld(r, 5))
	full.Store(true)
	src.set(resources(ids(6)...), nil)
	r.until("etcd has refused it several times", func() bool { return q.injected() > 5 })
	select {
	case <-m.Done():
		t.Fatalf("the member has ended: %v", m.Err())
	default:
	}
	logged(t, logs, "etcd failed", 1)
	if r.count("terminate", "") != 0 {
		t.Errorf("calls %v, log %v", r.all(), logs.All())
	}
	full.Store(false)
	r.until("six are handled", allHeld(r, 6))
}

func TestForeverTriesASourceUntilItRecovers(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource()
	src.set(nil, errors.New("not yet"))
	var attempts atomic.Int32
	src.onFetch = func(context.Context) {
		if attempts.Add(1) == 3 {
			src.set(resources("x"), nil)
		}
	}
	cfg := w.config("a", r)
	cfg.AllocateOnly, cfg.Retriever, cfg.FetchRetryBudget = false, src, drm.Forever
	cfg.PollInterval = 100 * time.Millisecond // no pause between attempts is longer
	var told atomic.Int32
	cfg.OnSourceError = func(error) { told.Add(1) }
	observed, logs := observer.New(zap.WarnLevel)
	cfg.Logger = zap.New(observed)
	w.start(cfg) // returns when the first fetch has succeeded
	r.until("it is handled", allHeld(r, 1))
	// OnSourceError may be told of the second failure only, if this took so long.
	r.until("OnSourceError was told", func() bool { return told.Load() > 0 })
	if n := len(logged(t, logs, "cannot fetch from the source", 2)); n != 2 || told.Load() > 2 {
		t.Errorf("%d failures were logged and %d told, want 2", n, told.Load())
	}
}
