package drm

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/clock"
	"github.com/distributed-resource-manager/drm/shard"
)

// SetStatsInterval changes how often figures are written. Call it before any member starts.
func SetStatsInterval(d time.Duration) { statsInterval = d }

// StartOn is Start on another clock than the system's, and by another wall clock.
func StartOn(ctx context.Context, cfg Config, c clock.Clock, wall func() time.Time) (*Manager, error) {
	return startOn(ctx, cfg, c, wall)
}

// Wedge keeps the member's loop from doing anything, until release is called.
func (m *Manager) Wedge() (release func()) {
	wedged, free := make(chan struct{}), make(chan struct{})
	m.post(func() { close(wedged); <-free })
	<-wedged
	return func() { close(free) }
}

// CheckItems checks what a source returned, and counts what is fine.
func CheckItems(resources []Resource) (int, *BadItemsError) {
	items, bad := toItems(resources, nil)
	return len(items), bad
}

// Sees is the member that r belongs to, as the loop of this member knows by now; "" where it does not follow it.
func (m *Manager) Sees(id string) (owner string) {
	m.ask(func() {}) // what a view has posted is done
	if v := m.group.last.Load(); v != nil {
		owner = v.Owner(shard.Of(id, m.app.Shards))
	}
	m.ask(func() {})
	return owner
}

// Stuck is how many calls were given up and have not returned.
func (m *Manager) Stuck() (n int) {
	m.ask(func() { n = m.core.Stats().Stuck })
	return n
}

// During lets tests wait as Start does.
func During(ctx context.Context, log *zap.Logger, what string, f func() error) error {
	return during(ctx, log, what, nil, f)
}
