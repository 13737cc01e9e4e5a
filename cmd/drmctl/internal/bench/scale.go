package bench

import (
	"context"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// scale measures what one join and one death in a large group cost the members that get and give nothing.
func scale(ctx context.Context, l *lab) (map[string]float64, bool, error) {
	members, n := max(4, int(100*min(1, l.opts.Scale))), l.size(200_000)
	if err := l.fill(ctx, n); err != nil {
		return nil, false, err
	}
	l.handler = newCounter(n)
	// Without this, what members read again at intervals would count as a cost of the join.
	unsynced := func(c *drm.Config) { c.ResyncInterval = 24 * time.Hour }
	if err := l.group(ctx, members, unsynced); err != nil {
		return nil, false, err
	}
	if err := l.settled(ctx, members, n); err != nil {
		return nil, false, err
	}
	l.say("%d members share %d resources", members, n)
	f := map[string]float64{"members": float64(members), "resources": float64(n)}
	ok := true
	for _, round := range []struct {
		name string
		do   func() error
		left int
	}{
		{"join", func() error { _, err := l.start(ctx, "newcomer", unsynced); return err }, members + 1},
		{"death", func() error { l.members["member-000"].wire.cut(); return nil }, members},
	} {
		if err := l.round(ctx, round.name, round.do, round.left, n, f); err != nil {
			return nil, false, err
		}
		ok = ok && f[round.name+"_other_events"] == 0 && f[round.name+"_other_keys_read"] == 0
	}
	return f, ok, nil
}

// round does one thing, and counts what the members hear of it that it does not concern.
func (l *lab) round(ctx context.Context, name string, do func() error, members, n int, f map[string]float64) error {
	before, _, err := l.owners(ctx)
	if err != nil {
		return err
	}
	for _, m := range l.all() {
		m.wire.reset()
	}
	began := time.Now()
	if err := do(); err != nil {
		return err
	}
	if err := l.settled(ctx, members, n); err != nil {
		return err
	}
	took := time.Since(began)
	after, _, err := l.owners(ctx)
	if err != nil {
		return err
	}
	concerned := map[string]bool{}
	moved := 0
	for s := range after {
		if after[s] != before[s] {
			concerned[after[s]], concerned[before[s]] = true, true
			moved++
		}
	}
	var events, keys, group, uninvolved int64
	for _, m := range l.all() {
		if concerned[m.ID()] {
			continue
		}
		uninvolved++
		events += m.wire.otherEvents.Load()
		keys += m.wire.otherKeys.Load()
		group += m.wire.groupEvents.Load()
	}
	l.say("%s: %d shards moved, %d members were not concerned", name, moved, uninvolved)
	f[name+"_seconds"] = took.Seconds()
	f[name+"_shards_moved"], f[name+"_uninvolved"] = float64(moved), float64(uninvolved)
	f[name+"_other_events"], f[name+"_other_keys_read"] = float64(events), float64(keys)
	f[name+"_group_events_each"] = float64(group) / float64(max(1, uninvolved))
	return nil
}
