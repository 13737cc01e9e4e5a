package scenario_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
)

// failingOn is a handler that fails on some members.
type failingOn struct {
	*recorder
	mu      sync.Mutex
	members map[string]bool
}

func newFailingOn(tb testing.TB, members ...string) *failingOn {
	f := &failingOn{recorder: newRecorder(tb), members: map[string]bool{}}
	f.handsOverFailed = true
	for _, m := range members {
		f.members[m] = true
	}
	f.onHandle = func(_ context.Context, c drm.Claim) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.members[c.Member] {
			return errSick
		}
		return nil
	}
	return f
}

// quickly is a config whose failures are compared soon.
func (w *world) quickly(id string, h drm.Handler) drm.Config {
	cfg := w.config(id, h)
	cfg.ReadyInterval, cfg.UnreadyAfter, cfg.HandleBackoffMax = 100*time.Millisecond, 3, 50*time.Millisecond
	return cfg
}

func TestAMemberOnWhichNearlyAllFailsHandsOver(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newFailingOn(t, "b")
	w.catalogueOf(60)
	observed, logs := observer.New(zap.InfoLevel)
	w.start(w.quickly("a", r))
	cfg := w.quickly("b", r)
	cfg.Logger = zap.New(observed)
	w.start(cfg)
	r.until("a has all", func() bool { return len(of(r.holders(), "a")) == 60 && settled(t, w) })
	if m := w.member("b"); m.State != "unready" || !strings.Contains(m.Reason, "resources fail, and 0 of the others'") {
		t.Errorf("%+v", m)
	}
	told := logged(t, logs, "nearly everything fails on this member", 1)
	if len(told) != 1 || told[0].ContextMap()["until_next_try"] != time.Minute {
		t.Errorf("logged: %v", logs.All())
	}
}

func TestMembersThatFailTogetherKeepWhatTheyHave(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		sick []string
		set  func(*drm.Config)
	}{
		"all fail":                {[]string{"a", "b"}, func(*drm.Config) {}},
		"nobody is to compare it": {[]string{"b"}, func(c *drm.Config) { c.FailedShare = drm.Never }},
		"all must be ready":       {[]string{"b"}, func(c *drm.Config) { c.MinReady = 1 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, r := newWorld(t), newFailingOn(t, tt.sick...)
			w.catalogueOf(60)
			for _, id := range []string{"a", "b"} {
				cfg := w.quickly(id, r)
				tt.set(&cfg)
				w.start(cfg)
			}
			failed := func() int {
				s, err := w.client().Status(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return s.Failed
			}
			r.until("they fail for longer than it takes to compare", func() bool {
				return r.count("handle_failed", "") > 2000
			})
			if failed() == 0 {
				t.Error("nothing fails")
			}
			if m := w.member("b"); m.State != "active" || m.Shards == 0 {
				t.Errorf("%+v", m)
			}
		})
	}
}
