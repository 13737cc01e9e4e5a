package drm

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/distributed-resource-manager/drm/internal/health"
)

// Health tells how a member is, for probes from outside, also while Start has not returned: a start may wait for etcd,
// or for the key of a member that was killed, and nobody should take it for one that hangs. The zero value is ready to
// use. Give it to Start as Config.Health, or take the one of Manager.Health. One Health goes with one member at a time.
// Any goroutine may call its methods. Package httpapi answers HTTP requests with it.
type Health struct {
	board   health.Board
	manager atomic.Pointer[Manager] // nil before the member has joined
}

// HealthState is how far a member is.
type HealthState string

// The states of a member's health.
const (
	// HealthStarting: the member has not joined yet; Start has not returned.
	HealthStarting HealthState = "starting"
	// HealthReady: the member has joined, and nothing keeps it from handling what it owns.
	HealthReady HealthState = "ready"
	// HealthUnready: the member has joined, but something is wrong with it. The lease of its key is gone or fenced
	// (etcd does not answer), so that it is not a member for now; or it says that it cannot work (Config.Ready, or
	// Config.FailedShare), also where too few members are ready, and it goes on for that reason (Config.MinReady). It
	// comes back by itself.
	HealthUnready HealthState = "unready"
	// HealthStopping: the member ends what it handles, after Stop or because of the error that Manager.Err returns.
	HealthStopping HealthState = "stopping"
	// HealthEnded: the member has ended, or Start has failed.
	HealthEnded HealthState = "ended"
)

// HealthStatus is how a member is at one moment.
type HealthStatus struct {
	State HealthState
	// Reason says why the state is not HealthReady, and what a start waits for. It is empty if the member is ready.
	Reason string
	// Since is since when Reason holds, or since when the member has been ready. It is zero before Start was called.
	Since time.Time
	// Until is when Reason has passed at the latest, one way or another. It is zero if nobody knows.
	Until time.Time
}

// Status returns how the member is now. It never blocks.
func (h *Health) Status() HealthStatus {
	s := h.board.Status()
	return HealthStatus{State: HealthState(s.State), Reason: s.Reason, Since: s.Since, Until: s.Until}
}

// Live returns nil if the member works, or may yet: it is starting, however long that takes, or its loop answers before
// ctx ends, or it is stopping. An error says that only another process can go on: the member has ended for good, or its
// loop does not answer. It is what a liveness probe should ask; ctx should give the loop a second.
func (h *Health) Live(ctx context.Context) error {
	if s := h.Status(); s.State == HealthEnded {
		return fmt.Errorf("%w: %s", ErrStopped, s.Reason)
	}
	if m := h.manager.Load(); m != nil {
		return m.member.Live(ctx)
	}
	return nil
}

// Manager returns the member: nil before it has joined, and then what Start returns. It joins before Start returns:
// resources may be handled while Start waits for the first fetch, or for others to see the member.
func (h *Health) Manager() *Manager { return h.manager.Load() }

// begin makes h that of a member that starts. It returns false if h is that of a member that has not ended.
func (h *Health) begin() bool {
	if !h.board.Begin() {
		return false
	}
	h.manager.Store(nil)
	return true
}

// end says that a start has failed.
func (h *Health) end(err error) { h.board.End(err) }
