package scenario_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/distributed-resource-manager/drm"
)

func TestADrainTellsHowFarItIsAndWhatKeepsIt(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	release := make(chan struct{})
	r.onTerminate = func(_ context.Context, c drm.Claim) error {
		if c.Resource.ID == "slow" {
			<-release
		}
		return nil
	}
	w.members(r, nil, "a", "b")
	c := w.client()
	all := append(ids(40), "slow")
	for _, id := range all {
		if err := c.Allocate(t.Context(), drm.Resource{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	had := 0
	r.until("all is handled, and the members say so", func() bool {
		ms, err := c.Members(t.Context())
		if err != nil || len(ms) != 2 || len(r.holders()) != len(all) || !settled(t, w) {
			return false
		}
		if had = ms[0].Resources; r.holders()["slow"] == "b" {
			had = ms[1].Resources
		}
		return ms[0].Resources+ms[1].Resources == len(all)
	})
	owner := r.holders()["slow"]
	if err := c.Drain(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var last drm.DrainProgress
	drained := make(chan error, 1)
	go func() {
		drained <- c.WatchDrain(t.Context(), owner, func(p drm.DrainProgress) {
			mu.Lock()
			defer mu.Unlock()
			last = p
		})
	}()
	told := func() drm.DrainProgress {
		mu.Lock()
		defer mu.Unlock()
		return last
	}
	r.until("it says that one is left, and which one", func() bool {
		p := told()
		return p.Left == 1 && p.Slowest == "slow" && p.Why != "" && p.Gone <= had
	})
	// Whoever waits without the progress learns the reason too.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var ended *drm.WaitError
	if err := c.WatchDrain(ctx, owner, func(drm.DrainProgress) {}); !errors.As(err, &ended) {
		t.Errorf("a wait that has ended: %v", err)
	}
	close(release)
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	before := told()
	if err := c.Undrain(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	var waited []string
	if err := c.WatchUndrain(t.Context(), owner, func(text string) { waited = append(waited, text) }); err != nil {
		t.Fatal(err)
	}
	for _, text := range waited {
		if strings.TrimSpace(text) == "" {
			t.Errorf("it told nothing: %q", waited)
		}
	}
	if told() != before {
		t.Error("it told of progress when the wait was over")
	}
}
