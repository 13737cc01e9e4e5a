package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
)

// restartTakes is how long a member is away that is restarted.
const restartTakes = time.Second

// roll is one way in which all members are replaced, one after the other.
type roll struct {
	name    string
	rejoin  time.Duration // of each member
	newIDs  bool          // each has a new id, and starts before the old one stops
	version string        // of those that come
}

// rolling measures what a rolling update moves, and for how long a resource is unhandled, in several ways.
func rolling(ctx context.Context, l *lab) (map[string]float64, bool, error) {
	n, rollers := l.size(10_000), 10
	if l.opts.Scale < 0.1 {
		rollers = 3 // each of them takes its time, however few resources there are
	}
	if err := l.fill(ctx, n); err != nil {
		return nil, false, err
	}
	f := map[string]float64{"members": float64(rollers), "resources": float64(n)}
	for _, r := range []roll{
		{name: "stable_ids"},
		{name: "rejoin", rejoin: 30 * time.Second},
		{name: "new_ids", newIDs: true, version: "v1"},
		{name: "new_versions", newIDs: true, version: "v2"},
	} {
		moves, gap, err := l.roll(ctx, r, rollers, n)
		if err != nil {
			return nil, false, fmt.Errorf("%s: %w", r.name, err)
		}
		f[r.name+"_moves_each"], f[r.name+"_longest_gap_ms"] = float64(moves)/float64(n), ms(gap)
		l.say("%s: %.2f moves of each resource, unhandled for %v at most", r.name, float64(moves)/float64(n),
			gap.Round(time.Millisecond))
	}
	return f, f["rejoin_moves_each"] == 0 && f["new_versions_moves_each"] <= 2, nil
}

// roll starts a group, replaces each of its members, and stops all. It returns how many resources have moved meanwhile,
// and how long one was unhandled at most.
func (l *lab) roll(ctx context.Context, r roll, rollers, n int) (moves int, gap time.Duration, err error) {
	l.handler = newCounter(n)
	of := func(version string) func(*drm.Config) {
		return func(c *drm.Config) { c.Rejoin, c.Version = r.rejoin, version }
	}
	if err := l.group(ctx, rollers, of("v1")); err != nil {
		return 0, 0, err
	}
	if err := l.settled(ctx, rollers, n); err != nil {
		return 0, 0, err
	}
	l.handler.takeGaps()
	l.handler.takeMoves()
	old := l.all()
	slices.SortFunc(old, func(a, b *member) int { return strings.Compare(a.ID(), b.ID()) })
	for _, m := range old {
		next := m.ID()
		if r.newIDs {
			next = "new-" + next
			if _, err := l.start(ctx, next, of(r.version)); err != nil {
				return 0, 0, err
			}
			if err := l.settled(ctx, rollers+1, n); err != nil {
				return 0, 0, err
			}
		}
		l.stop(ctx, m)
		if !r.newIDs {
			if err := pause(ctx, restartTakes); err != nil {
				return 0, 0, err
			}
			if _, err := l.start(ctx, next, of(r.version)); err != nil {
				return 0, 0, err
			}
		}
		if err := l.settled(ctx, rollers, n); err != nil {
			return 0, 0, err
		}
	}
	moves, gap = l.handler.takeMoves(), quantile(append(l.handler.takeGaps(), 0), 100)
	return moves, gap, l.disband(ctx)
}

// disband stops all members, and takes back what would delay the next group.
func (l *lab) disband(ctx context.Context) error {
	for _, m := range l.all() {
		l.stop(ctx, m)
	}
	_, err := l.client.Delete(ctx, l.layout.Group(), clientv3.WithPrefix())
	return err
}
