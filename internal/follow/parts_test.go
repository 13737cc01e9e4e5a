package follow_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/follow"
)

// startParts makes what follows parts of a range until the test ends.
func startParts(t *testing.T, h *follow.Hub, whole string) *follow.Parts {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ps := h.Parts(ctx, whole)
	var running sync.WaitGroup
	running.Go(ps.Run)
	t.Cleanup(func() { cancel(); running.Wait() })
	return ps
}

// While nothing happens in a small range, its parts have no goroutines. They hear of what happens all the same.
func TestPartsOfAQuietRangeHaveNoGoroutines(t *testing.T) {
	const n = 1000
	whole := newPrefix()
	h := newHub(t, dial(t, server.Endpoint()), follow.Options{Resync: time.Second})
	before := runtime.NumGoroutine()
	all := parts(t, h, whole, n)
	for round := range 3 {
		deadline := time.After(time.Minute)
		for look := time.NewTicker(10 * time.Millisecond); runtime.NumGoroutine()-before > 100; {
			select {
			case <-look.C:
			case <-deadline:
				t.Fatalf("%d goroutines for %d parts", runtime.NumGoroutine()-before, n)
			}
		}
		for i := range 20 {
			put(t, fmt.Sprintf("%skey-%d", all[(i*37+round)%n].prefix, round), fmt.Sprint(i))
		}
		for i := range 20 {
			all[(i*37+round)%n].judge(t)
		}
	}
	for _, m := range all {
		m.judge(t)
	}
}

// Parts come and go while their range changes, and while etcd is asked again and again whether anything was missed.
func TestPartsComeAndGoWhileTheirRangeChanges(t *testing.T) {
	const n = 20
	whole := newPrefix()
	h := newHub(t, dial(t, server.Endpoint()), follow.Options{Resync: 50 * time.Millisecond})
	ps := startParts(t, h, whole)
	rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test that can be repeated
	prefix := func(i int) string { return fmt.Sprintf("%s%03d/", whole, i) }
	followed := map[int]*mirror{}
	var left []*mirror
	for round := range 600 {
		switch i := rng.IntN(n); {
		case round%3 != 0:
			put(t, prefix(i)+fmt.Sprint(rng.IntN(5)), fmt.Sprint(round))
		case followed[i] == nil:
			followed[i] = newMirror(prefix(i))
			ps.Follow(prefix(i), followed[i])
		default:
			ps.Unfollow(prefix(i))
			left = append(left, followed[i])
			delete(followed, i)
		}
	}
	for _, m := range followed {
		m.judge(t)
	}
	for i := range n { // whoever has left hears nothing of this
		put(t, prefix(i)+"last", "last")
	}
	for _, m := range followed {
		m.has(t, m.prefix+"last", "last")
	}
	for _, m := range left {
		m.mu.Lock()
		if _, has := m.state[m.prefix+"last"]; has {
			t.Errorf("%s heard of something after it had left", m.prefix)
		}
		m.mu.Unlock()
	}
}
