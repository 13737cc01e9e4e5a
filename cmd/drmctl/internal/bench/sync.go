package bench

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/retriever"
)

// syncing measures how a member takes over a large source in a fresh app, and then a small change in the source.
func syncing(ctx context.Context, l *lab) (map[string]float64, bool, error) {
	n := l.size(1_000_000)
	entry := catalogue.Entry{FromSource: true, Data: object(0, dataBytes, "x")}
	raw, _, err := l.raw(ctx, n, len(entry.Encode()))
	if err != nil {
		return nil, false, err
	}
	var list atomic.Pointer[[]drm.Resource]
	first := objects(n)
	list.Store(&first)
	var answered atomic.Int64
	source := retriever.Func(func(context.Context) ([]drm.Resource, error) {
		defer func() { answered.Store(time.Now().UnixNano()) }()
		return *list.Load(), nil
	})
	l.handler = newCounter(n)
	full := l.handler.expect(n)
	m, err := l.start(ctx, "member", func(c *drm.Config) { // start returns when the first sync is done
		c.AllocateOnly, c.Retriever, c.CacheResources = false, source, true
	})
	if err != nil {
		return nil, false, err
	}
	took := time.Since(time.Unix(0, answered.Load()))
	l.say("the first sync took %v", took.Round(time.Millisecond))
	if err := await(ctx, "all are handled", full); err != nil {
		return nil, false, err
	}
	all := time.Since(time.Unix(0, answered.Load()))
	if err := l.settled(ctx, 1, n); err != nil {
		return nil, false, err
	}

	changed, changes := slices.Clone(first), 0
	for i := 0; i < n; i += 100 {
		changed[i].Data = object(i, dataBytes, "y")
		changes++
	}
	list.Store(&changed)
	m.wire.reset()
	began := time.Now()
	m.Refetch()
	if err := l.entries(ctx, m, changes); err != nil {
		return nil, false, err
	}
	again := time.Since(began)
	f := map[string]float64{
		"resources": float64(n), "raw_seconds": raw.Seconds(),
		"first_seconds": took.Seconds(), "handled_seconds": all.Seconds(),
		"first_of_raw": raw.Seconds() / took.Seconds(), "changes": float64(changes), "resync_seconds": again.Seconds(),
		"resync_writes": float64(m.wire.entryWrites.Load()), "resync_keys_read": float64(m.wire.otherKeys.Load()),
	}
	reached := f["first_of_raw"] >= 0.5 && f["resync_writes"] == float64(changes) &&
		f["resync_keys_read"] <= 1.1*float64(changes)+100
	return f, reached, nil
}

// entries waits until a member has written that many entries.
func (l *lab) entries(ctx context.Context, m *member, n int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for m.wire.entryWrites.Load() < int64(n) {
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}
