package picture

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/pace"
)

const (
	// progressEvery is how long there is between two reports of progress, at least, and progressLate at most.
	progressEvery = 200 * time.Millisecond
	progressLate  = time.Second
	// rateOver is the time over which a rate is measured.
	rateOver = 10 * time.Second
	// stallAfter is how long a member lets go of nothing until the claims are searched for one that it has, and
	// searchEvery is how long there is between two such searches: one may read all claims of the app.
	stallAfter  = 5 * time.Second
	searchEvery = 30 * time.Second
)

// Progress says how far a drain is.
type Progress struct {
	Left      int           // how many claims the member still has; -1: it has never said how many
	Gone      int           // how many it has let go of since the wait began
	Rate      float64       // how many of these a second, of late
	Remaining time.Duration // how long the rest takes at that rate; 0: nobody knows
	Waiting   string        // what is waited for; empty before the first look
	Slowest   string        // the resource that has kept the member longest, as far as is known; empty: none has
	Why       string        // why Slowest does
}

// WatchDrained is WaitDrained, and calls tell with the progress: now and then, one call at a time, and not after it has
// returned. What it tells comes from watches.
func (r *Reader) WatchDrained(ctx context.Context, member string, tell func(Progress)) error {
	t := &drainTracker{
		r: r, member: member, left: -1, figures: -1, slow: map[string]slowClaim{}, moved: time.Now(),
		news: make(chan struct{}, 1),
	}
	var all sync.WaitGroup
	watching, cancel := context.WithCancel(ctx)
	defer all.Wait()
	defer cancel()
	all.Go(func() { t.follow(watching) })
	all.Go(func() { t.report(watching, tell) })
	all.Go(func() { t.search(watching) })
	return r.waitDrained(ctx, member, t)
}

// drainTracker gathers the progress of a drain.
type drainTracker struct {
	r      *Reader
	member string
	news   chan struct{} // something has changed

	mu      sync.Mutex
	left    int
	figures int // what the member's figures have said last; -1: there were none
	gone    int
	moved   time.Time // when gone rose last
	waiting string
	slow    map[string]slowClaim // the member's claims that say why they are still there
	found   slowClaim            // by the last search
	samples []sample             // of gone, the oldest first
}

// slowClaim is a claim that the member still has.
type slowClaim struct {
	id, why string
	since   time.Time
}

type sample struct {
	at   time.Time
	gone int
}

// hears takes what the wait has seen: how many claims the member has by its figures (-1: it has none), and what is
// waited for. t may be nil.
func (t *drainTracker) hears(figures int, waiting string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	if figures >= 0 && figures != t.figures {
		t.figures, t.left = figures, figures
	}
	if waiting != "" {
		t.waiting = waiting
	}
	t.mu.Unlock()
	t.stir()
}

func (t *drainTracker) stir() {
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// follow counts the claims that the member lets go of, and notes what keeps it from that.
func (t *drainTracker) follow(ctx context.Context) {
	for pauses := pace.Retry(); ; {
		watching, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		shards := t.r.Layout.Shards()
		for resp := range t.r.Client.Watch(watching, shards, clientv3.WithPrefix(), clientv3.WithPrevKV()) {
			if resp.Err() == nil && len(resp.Events) > 0 {
				pauses.Reset()
				t.take(resp.Events)
			}
		}
		cancel()
		t.mu.Lock()
		clear(t.slow) // what has become of them meanwhile is not known
		t.mu.Unlock()
		if !pauses.Wait(ctx) {
			return
		}
	}
}

func (t *drainTracker) take(events []*clientv3.Event) {
	t.mu.Lock()
	before := t.gone
	for _, ev := range events {
		key := t.r.Layout.Parse(string(ev.Kv.Key))
		if key.Kind != keys.Claim {
			continue
		}
		if ev.Type == clientv3.EventTypeDelete {
			if _, mine := t.claimOf(ev.PrevKv); mine {
				t.gone++
				t.left = max(t.left-1, min(t.left, 0))
			}
			t.forget(key.ID)
			continue
		}
		switch c, mine := t.claimOf(ev.Kv); {
		case !mine:
		case ev.IsCreate():
			if t.left >= 0 {
				t.left++
			}
		case c.Error != "":
			t.slow[key.ID] = slowOf(key.ID, c)
		default:
			t.forget(key.ID)
		}
	}
	if t.gone > before {
		t.moved = time.Now()
	}
	t.mu.Unlock()
	t.stir()
}

func (t *drainTracker) forget(id string) {
	if delete(t.slow, id); t.found.id == id {
		t.found = slowClaim{}
	}
}

// claimOf returns a claim's record, and whether the claim is the member's. kv may be nil.
func (t *drainTracker) claimOf(kv *mvccpb.KeyValue) (claims.Record, bool) {
	if kv == nil {
		return claims.Record{}, false
	}
	c, err := claims.Decode(kv.Value)
	return c, err == nil && c.Member == t.member
}

// runsSince is how a claim says since when a call runs.
const runsSince = "has been running since "

// slowOf says why a claim is still there, and since when that has been so.
func slowOf(id string, c claims.Record) slowClaim {
	if _, text, runs := strings.Cut(c.Error, runsSince); runs {
		text, _, _ = strings.Cut(text, ";")
		if since, err := time.Parse(time.RFC3339, strings.TrimSpace(text)); err == nil {
			return slowClaim{id, "its " + c.Error, since}
		}
	}
	why := "it is " + c.State
	if !c.Since.IsZero() {
		why += " since " + c.Since.UTC().Format(time.RFC3339)
	}
	if c.Error != "" {
		why += ": " + c.Error
	}
	return slowClaim{id, why, c.Since}
}

// report tells of the progress when there is any, and from time to time when there is none.
func (t *drainTracker) report(ctx context.Context, tell func(Progress)) {
	late := time.NewTicker(progressLate)
	defer late.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-late.C:
		case <-t.news:
		}
		tell(t.progress(time.Now()))
		if !pace.Wait(ctx, progressEvery) {
			return
		}
	}
}

func (t *drainTracker) progress(now time.Time) Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.samples = append(t.samples, sample{now, t.gone})
	for len(t.samples) > 2 && now.Sub(t.samples[1].at) >= rateOver {
		t.samples = t.samples[1:]
	}
	p := Progress{Left: t.left, Gone: t.gone, Waiting: t.waiting}
	if first := t.samples[0]; now.Sub(first.at) >= progressEvery {
		p.Rate = float64(t.gone-first.gone) / now.Sub(first.at).Seconds()
	}
	if p.Rate > 0 && p.Left > 0 {
		p.Remaining = time.Duration(float64(p.Left) / p.Rate * float64(time.Second))
	}
	slowest := t.found
	for _, c := range t.slow {
		sooner := cmp.Or(c.since.Compare(slowest.since), cmp.Compare(c.id, slowest.id))
		if slowest.id == "" || sooner < 0 {
			slowest = c
		}
	}
	p.Slowest, p.Why = slowest.id, slowest.why
	return p
}

// search looks for a claim of the member while it lets go of nothing.
func (t *drainTracker) search(ctx context.Context) {
	for pause := stallAfter; pace.Wait(ctx, pause); {
		t.mu.Lock()
		stalls := time.Since(t.moved) >= stallAfter && len(t.slow) == 0 && t.left != 0
		t.mu.Unlock()
		if pause = stallAfter; !stalls {
			continue
		}
		pause = searchEvery
		if found, err := t.searchOnce(ctx); err == nil {
			t.mu.Lock()
			t.found = found
			t.mu.Unlock()
			t.stir()
		}
	}
}

// searchOnce finds a claim of the member, and says why it is still there; its id is empty if there is none. It reads
// shards until it has found one.
func (t *drainTracker) searchOnce(ctx context.Context) (slowClaim, error) {
	for from := 0; from < t.r.Shards; from += sweepBatch {
		var prefixes []string
		for n := from; n < min(from+sweepBatch, t.r.Shards); n++ {
			prefixes = append(prefixes, t.r.Layout.Claims(n))
		}
		found, err := t.r.below(ctx, prefixes)
		if err != nil {
			return slowClaim{}, err
		}
		for _, kvs := range found {
			for _, kv := range kvs {
				if c, mine := t.claimOf(kv); mine {
					return t.unmoved(ctx, slowOf(t.r.Layout.Parse(string(kv.Key)).ID, c), kv.Lease)
				}
			}
		}
	}
	return slowClaim{}, nil
}

// unmoved adds to why a claim is still there that nobody renews its lease, if that is so.
func (t *drainTracker) unmoved(ctx context.Context, c slowClaim, lease int64) (slowClaim, error) {
	asking, cancel := context.WithTimeout(ctx, t.r.Timeout)
	defer cancel()
	resp, err := t.r.Client.TimeToLive(asking, clientv3.LeaseID(lease))
	if err != nil {
		return c, err
	}
	if age := ageOf(resp); age.stale() && resp.TTL >= 0 {
		c.why += fmt.Sprintf("; its member does not answer, and the claim expires in %v at most", age.left)
	}
	return c, nil
}
