package scenario_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
	"github.com/distributed-resource-manager/drm/internal/faultproxy"
)

// stuckPipe is a log's sink like a pipe that nobody reads: once it is told to, it blocks until it is opened again.
type stuckPipe struct {
	blocked atomic.Bool
	open    chan struct{}
}

func (p *stuckPipe) Write(b []byte) (int, error) {
	if p.blocked.Load() {
		<-p.open
	}
	return len(b), nil
}

func (p *stuckPipe) Sync() error { return nil }

// A member whose log blocks loses etcd. Everything that it handles has ended before another member handles it.
func TestABlockedLogDelaysNoDeadline(t *testing.T) {
	w, seen := newWorld(t), &witness{}
	proxy, err := faultproxy.New(strings.TrimPrefix(w.endpoint, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	pipe := &stuckPipe{open: make(chan struct{})}
	var terminated atomic.Int32
	cfg := w.config("a", handler.New(handler.Funcs{
		Handle:    func(ctx context.Context, c drm.Claim) error { seen.saw(ctx, c); return nil },
		Terminate: func(context.Context, drm.Claim) error { terminated.Add(1); return nil },
	}))
	cfg.Etcd = drm.EtcdConfig{Endpoints: []string{proxy.Endpoint()}, CommandTimeout: time.Second}
	cfg.Logger = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), pipe,
		zap.DebugLevel))
	cfg.LeaseTTL, cfg.StopTimeout = 5*time.Second, 2*time.Second
	a, err := w.tryStart(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	taken := make(chan struct{})
	b := w.config("b", handler.New(handler.Funcs{Handle: func(_ context.Context, c drm.Claim) error {
		if c.Resource.ID != "r" {
			return nil
		}
		if old, ok := seen.of("a", "r"); !ok || !old.isOver() {
			t.Errorf("b begins to handle while a's handling is alive: %v", old)
		}
		close(taken)
		return nil
	}}))
	w.start(b)
	w.pin("a", "r", "s")
	w.allocate("r")
	await(t, "a handles r", func() bool { _, ok := seen.of("a", "r"); return ok })

	pipe.blocked.Store(true)
	w.allocate("s") // its Terminate is logged at debug level
	await(t, "a handles s", func() bool { return len(a.Held()) == 2 })
	if err := w.client().Deallocate(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	await(t, "a has terminated s, though its log blocks", func() bool {
		return terminated.Load() == 1 && len(a.Held()) == 1
	})

	proxy.BlackHole()
	select {
	case <-taken:
	case <-time.After(patience):
		t.Fatal("b does not take over")
	}
	await(t, "a has terminated r", func() bool { return terminated.Load() == 2 })
	proxy.Heal()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = a.Stop(context.Background())
	}()
	select {
	case <-stopped:
	case <-time.After(patience):
		t.Error("Stop waits for the log")
	}
	close(pipe.open)
}
