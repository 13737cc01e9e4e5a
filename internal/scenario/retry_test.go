package scenario_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

// What an operator has mended is tried at once, though each member would wait for minutes.
func TestWhatHasFailedIsTriedAgainWhenAnOperatorSaysSo(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	var mended atomic.Bool
	r.onHandle = func(context.Context, drm.Claim) error {
		if mended.Load() {
			return nil
		}
		return errors.New("no route to the database")
	}
	for _, id := range []string{"a", "b"} {
		cfg := w.config(id, r)
		cfg.HandleBackoff, cfg.HandleBackoffMax = time.Hour, time.Hour
		w.start(cfg)
	}
	c := w.client()
	all := ids(30)
	for _, id := range all {
		if err := c.Allocate(t.Context(), drm.Resource{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	var failed []drm.Assignment
	r.until("all have failed", func() bool {
		var err error
		if failed, err = c.Assignments(t.Context(), drm.AssignmentFilter{Failed: true}); err != nil {
			t.Fatal(err)
		}
		return len(failed) == len(all)
	})

	mended.Store(true)
	if was, err := c.RetryWith(t.Context(), all[0], drm.OrderOptions{By: "ann"}); was != drm.StateFailed || err != nil {
		t.Fatalf("retry: %q, %v", was, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := c.Wait(ctx, all[0]); err != nil {
		t.Fatal(err)
	}
	if err := c.Retry(t.Context(), all[0]); err != nil {
		t.Errorf("retry what works: %v", err)
	}
	ordered, err := c.RetryFailed(t.Context(), drm.OrderOptions{})
	want := slices.Sorted(slices.Values(all[1:]))
	if err != nil || !slices.Equal(ordered, want) {
		t.Fatalf("ordered %v (%v), want %v", ordered, err, want)
	}
	for _, f := range failed {
		if a, err := c.Wait(ctx, f.Resource); err != nil || a.Token != f.Token {
			t.Errorf("%+v (%v), want it active under token %d", a, err, f.Token)
		}
	}
	layout := keys.New(drm.DefaultPrefix, w.app)
	r.until("the orders are deleted that were obeyed", func() bool {
		for _, id := range all {
			key := layout.Retry(shard.Of(id, 64), id)
			if resp, err := w.etcd.Get(t.Context(), key, clientv3.WithCountOnly()); err != nil || resp.Count > 0 {
				return false
			}
		}
		return true
	})
	if found, err := c.Verify(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("verify: %v, %v", found, err)
	}
}
