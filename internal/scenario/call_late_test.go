package scenario_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// On a busy processor the goroutines of calls may wait for longer than HandleTimeout before they run. That proves
// nothing about the lease: everything else on it goes on.
func TestACallThatRunsLateFencesNothing(t *testing.T) {
	const healthy, busy = 5, 64
	w := newWorld(t)
	logs, seen := observer.New(zap.WarnLevel)
	var handled, worked, terminated atomic.Int32
	cfg := w.config("a", handler.New(handler.Funcs{
		Handle: func(_ context.Context, c drm.Claim) error {
			if strings.HasPrefix(c.Resource.ID, "healthy") {
				handled.Add(1)
				return nil
			}
			for end := time.Now().Add(10 * time.Millisecond); time.Now().Before(end); { // keeps the processor busy
			}
			worked.Add(1)
			return nil
		},
		Terminate: func(_ context.Context, c drm.Claim) error {
			if strings.HasPrefix(c.Resource.ID, "healthy") {
				terminated.Add(1)
			}
			return nil
		},
	}))
	var all []string
	for i := range healthy {
		all = append(all, fmt.Sprint("healthy", i))
	}
	src := newSource(all...)
	cfg.AllocateOnly, cfg.Retriever = false, src
	cfg.HandleTimeout, cfg.LeaseTTL, cfg.Logger = 20*time.Millisecond, time.Minute, zap.New(logs)
	m, err := w.tryStart(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the healthy ones are handled", func() bool { return handled.Load() == healthy })
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for i := range busy {
		all = append(all, fmt.Sprint("busy", i))
	}
	src.set(resources(all...), nil) // the source gets them all at once
	m.Refetch()
	await(t, "each busy one had its turn", func() bool { return worked.Load() >= busy })
	if n := terminated.Load(); n > 0 {
		t.Errorf("%d Terminates of %d healthy resources, whose lease was in no danger", n, healthy)
	}
	w.stop(m)
	if fences := seen.FilterMessageSnippet("fenced").Len(); fences > 0 {
		t.Errorf("%d leases were fenced", fences)
	}
}
