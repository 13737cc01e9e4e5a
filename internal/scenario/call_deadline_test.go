package scenario_test

import (
	"context"
	"encoding/json"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
	"github.com/distributed-resource-manager/drm/internal/clock"
)

// leapingClock leaps by an hour at one moment, as if the machine slept: when a call of the user's code, which the
// member's loop has decided on, is about to begin.
type leapingClock struct {
	clock.Clock
	armed atomic.Bool
	leapt atomic.Int64
}

func (c *leapingClock) Now() time.Duration {
	if c.armed.Load() && isCalledBy("calls.(*call).run") && c.armed.CompareAndSwap(true, false) {
		c.leapt.Add(int64(time.Hour))
	}
	return c.Clock.Now() + time.Duration(c.leapt.Load())
}

// isCalledBy reports whether a function is on the stack of the goroutine.
func isCalledBy(function string) bool {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, function) {
			return true
		}
		if !more {
			return false
		}
	}
}

func TestNoHandleBeginsPastTheDeadline(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"handle", "update"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var handles, updates atomic.Int32
			look := func(what string, c drm.Claim) {
				if !c.Valid() {
					t.Errorf("%s begins under a claim whose deadline has passed", what)
				}
			}
			ticking := &leapingClock{Clock: clock.System()}
			w.options.Clock = ticking
			m := w.startOnly(w.config("a", handler.New(handler.Funcs{
				Handle: func(_ context.Context, c drm.Claim) error { look("Handle", c); handles.Add(1); return nil },
				Update: func(_ context.Context, c drm.Claim) error { look("Update", c); updates.Add(1); return nil },
			})))
			defer w.stop(m)
			if call == "update" {
				w.allocate("r")
				await(t, "r is handled", func() bool { return handles.Load() == 1 })
			}
			before := handles.Load()
			ticking.armed.Store(true)
			if err := m.Allocate(t.Context(), drm.Resource{
				ID: "r", Data: json.RawMessage(`{"id":"r","v":2}`),
			}); err != nil {
				t.Fatal(err)
			}
			await(t, "the clock was looked at before the call", func() bool { return !ticking.armed.Load() })
			await(t, "r is handled under another lease", func() bool {
				return handles.Load() > before && len(m.Held()) == 1
			})
		})
	}
}
