package bench

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/retriever"
)

// idle measures what members cost while nothing happens. The source is polled, and its answer is always the same.
func idle(ctx context.Context, l *lab) (map[string]float64, bool, error) {
	const (
		members = 10
		poll    = 20 * time.Second
		quiet   = 15 * time.Second // long enough for members to have written their figures, which they do every 10 s
	)
	// However short the bench is, each member keeps its lease alive at least once while it is watched.
	least := cmp.Or(l.opts.LeaseTTL, drm.DefaultLeaseTTL) / 2
	watched := max(time.Minute, least)
	if l.opts.Scale < 1 {
		watched = max(least, time.Duration(float64(watched)*l.opts.Scale))
	}
	n := l.size(100_000)
	source := retriever.Static(objects(n)...)
	l.handler = newCounter(n)
	users := l.logIn() // idleUsers turns users on later; until then members find that etcd has none
	err := l.group(ctx, members, func(c *drm.Config) {
		c.AllocateOnly, c.Retriever, c.PollInterval, c.CacheResources = false, source, poll, true
	})
	if err != nil {
		return nil, false, err
	}
	if err := l.settled(ctx, members, n); err != nil {
		return nil, false, err
	}
	l.say("%d members share %d resources; now nothing happens for %v", members, n, watched)
	if l.opts.Scale >= 1 {
		if err := pause(ctx, quiet); err != nil {
			return nil, false, err
		}
	}
	f, took, err := l.idleFigures(ctx, watched)
	if err != nil {
		return nil, false, err
	}
	f["members"], f["resources"], f["polls"] = members, float64(n), float64(took/poll+1)
	l.rates(f, "", took)
	ok := f["revisions"] <= f["polls"] && f["cpu_percent_each"] <= 1
	if users {
		if err := l.idleUsers(ctx, f, max(watched/2, least)); err != nil {
			return nil, false, err
		}
		ok = ok && f["users_authenticates_per_second"] == 0
	}
	return f, ok, nil
}

// idleFigures rests and returns what the members read, heard and used meanwhile, and how long the rest really took.
func (l *lab) idleFigures(
	ctx context.Context, watched time.Duration,
) (f map[string]float64, took time.Duration, err error) {
	before, err := l.client.Get(ctx, l.layout.Config())
	if err != nil {
		return nil, 0, err
	}
	cpu, took, err := l.rest(ctx, watched)
	if err != nil {
		return nil, 0, err
	}
	after, err := l.client.Get(ctx, l.layout.Config())
	if err != nil {
		return nil, 0, err
	}
	var keys, events int64
	members := l.all()
	for _, m := range members {
		keys += m.wire.otherKeys.Load() + m.wire.groupKeys.Load()
		events += m.wire.otherEvents.Load() + m.wire.groupEvents.Load()
	}
	return map[string]float64{
		"seconds": took.Seconds(), "revisions": float64(after.Header.Revision - before.Header.Revision),
		"cpu_percent_each": 100 * cpu.Seconds() / took.Seconds() / float64(len(members)),
		"keys_read":        float64(keys), "events": float64(events),
	}, took, nil
}

// idleUsers turns on authentication in etcd, and measures again.
func (l *lab) idleUsers(ctx context.Context, f map[string]float64, watched time.Duration) error {
	l.say("now they have to log in, and again nothing happens, for %v", watched)
	if err := l.usersOn(ctx); err != nil {
		return fmt.Errorf("turn users on: %w", err)
	}
	if err := pause(ctx, 5*time.Second); err != nil { // members open all their streams anew
		return err
	}
	cpu, took, err := l.rest(ctx, watched)
	if err != nil {
		return err
	}
	l.rates(f, "users_", took)
	f["users_cpu_percent_each"] = 100 * cpu.Seconds() / took.Seconds() / f["members"]
	return nil
}

// rest sets the counts of the members' connections to zero, and then waits. It returns how much processor time this
// process used meanwhile, and how long the wait really took.
func (l *lab) rest(ctx context.Context, watched time.Duration) (cpu, took time.Duration, err error) {
	for _, m := range l.all() {
		m.wire.reset()
	}
	used, began := cpuTime(), time.Now()
	if err := pause(ctx, watched); err != nil {
		return 0, 0, err
	}
	return cpuTime() - used, time.Since(began), nil
}
