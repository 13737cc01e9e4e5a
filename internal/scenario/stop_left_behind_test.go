package scenario_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// Stop says for each claim that it leaves behind why it does so.
func TestStopSaysWhichClaimsItLeft(t *testing.T) {
	t.Parallel()
	const n = 10
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	for name, test := range map[string]struct {
		terminate func(context.Context, drm.Claim) error
		change    func(*drm.Config)
		want      []string
	}{
		"Terminate fails, and the policy holds": {
			terminate: func(context.Context, drm.Claim) error { return errors.New("not now") },
			change: func(cfg *drm.Config) {
				cfg.TerminatePolicy, cfg.HandleBackoff = drm.HoldUntilTerminated, time.Minute
			},
			want: []string{"10 of 10 claims", "10 held since Terminate failed"},
		},
		"Terminate hangs, and there are few places": {
			terminate: func(context.Context, drm.Claim) error { <-release; return nil },
			change:    func(cfg *drm.Config) { cfg.TerminateConcurrency = 4 },
			want: []string{
				"10 of 10 claims", "4 in a call of the handler that has not returned", "6 not terminated in time",
			},
		},
		"Terminate is given up, and the policy holds": {
			terminate: func(context.Context, drm.Claim) error { <-release; return nil },
			change: func(cfg *drm.Config) {
				cfg.TerminatePolicy, cfg.TerminateTimeout = drm.HoldUntilTerminated, time.Millisecond
			},
			want: []string{"10 of 10 claims", "10 in one that was given up"},
		},
		"Terminate is given up, and the policy lets go": {
			terminate: func(context.Context, drm.Claim) error { <-release; return nil },
			change:    func(cfg *drm.Config) { cfg.TerminateTimeout = time.Millisecond },
			want:      []string{"10 calls of the handler have not returned"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			cfg := w.config("a", handler.New(handler.Funcs{Terminate: test.terminate}))
			cfg.AllocateOnly, cfg.Retriever = false, newSource(ids(n)...)
			cfg.StopTimeout = 3 * time.Second // longer than it takes until a call is given up
			test.change(&cfg)
			m, err := w.tryStart(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			await(t, "all are handled", func() bool { return len(m.Held()) == n })
			err = m.Stop(context.Background())
			if !errors.Is(err, drm.ErrLeftBehind) {
				t.Fatalf("Stop: %v", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Stop says %q, which lacks %q", err, want)
				}
			}
		})
	}
}

// hangingTearDown is a source whose TearDown does not return.
type hangingTearDown struct {
	*source
	release chan struct{}
}

func (s hangingTearDown) TearDown(context.Context) error {
	<-s.release
	return nil
}

func TestStopDoesNotWaitForATearDownThatHangs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	src := hangingTearDown{newSource("r"), make(chan struct{})}
	defer close(src.release)
	cfg := w.config("a", handler.New(handler.Funcs{}))
	cfg.AllocateOnly, cfg.Retriever = false, src
	cfg.FetchTimeout, cfg.StopTimeout = 24*time.Hour, 100*time.Millisecond
	m, err := w.tryStart(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- m.Stop(context.Background()) }()
	select {
	case err := <-stopped:
		if err == nil || !strings.Contains(err.Error(), "tear down the retriever") {
			t.Errorf("Stop: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("Stop does not return")
	}
}
