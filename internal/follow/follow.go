// Package follow keeps a reader up to date with all keys below a prefix of etcd: a list at one revision, then each
// change after it, in order and without a gap. After a compaction, a lost leader or a stream that hangs, the reader gets
// a fresh list; it never has to know.
//
// A Hub is one etcd client's share of watches. It asks for progress at intervals, makes new streams when nothing is
// heard, and notices when etcd went back in time.
package follow

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/mutant"
)

// ErrRewound says that a linearizable read told of an older revision than one seen before, or of another cluster: etcd
// was restored from a snapshot, or replaced.
var ErrRewound = errors.New("etcd was rewound or replaced")

// Sink receives what a followed prefix holds. The calls come one at a time, from one goroutine. They must not block for long:
// what is not taken piles up in the client.
type Sink interface {
	// Reset replaces everything known: kvs is all there is below the prefix at revision.
	Reset(kvs []*mvccpb.KeyValue, revision int64)
	// Apply tells of changes, in the order of their revisions; those of one transaction come together. With them, what is
	// known is all there is below the prefix at revision, which is that of the last of them.
	Apply(events []*clientv3.Event, revision int64)
}

// Options tune a Hub. Zero values take the defaults.
type Options struct {
	// ListTimeout bounds each page of a list. Default 5 s.
	ListTimeout time.Duration
	// Progress is the pause between two requests for progress, which keep quiet prefixes resumable near the head. After
	// three without an answer every stream is made anew. Lower finds hanging streams and rewound stores sooner, and asks
	// etcd more often. Default 30 s.
	Progress time.Duration
	// Probe is a key read at each Progress, to notice a store that was rewound. Required.
	Probe string
	// OnRewound is called, once, when that is noticed. Optional. It must not wait for the hub.
	OnRewound func(error)
	// OnError is called with each failure of a list or a watch that is about to be tried again, from many goroutines; with
	// no prefix where nothing was heard of any. Optional: it is there to be logged, as some (no permission, say) do not pass.
	OnError func(prefix string, err error)
	// PageSize is the most keys of one page of a list. Default 1000.
	PageSize int64
	// Resync is how long a reader is fed by a watch alone before it gets a fresh list, so that news which a watch has
	// silently missed does not stay missed. Each prefix takes up to a fifth less, at random, so that they do not list
	// together. Lower heals sooner, and reads everything more often. Default 5 min.
	Resync time.Duration
}

// Hub follows prefixes over one client. Close it when every Follow has returned.
type Hub struct {
	client *clientv3.Client
	opts   Options
	lists  chan struct{} // places for lists under way

	mu      sync.Mutex
	watcher clientv3.Watcher
	cluster uint64

	highest atomic.Int64
	heard   atomic.Int64 // progress periods begun when something was last heard
	period  atomic.Int64
	rewound sync.Once

	cancel context.CancelFunc
	done   chan struct{}
}

// NewHub makes a hub on a client, which it does not close.
func NewHub(client *clientv3.Client, opts Options) *Hub {
	if opts.ListTimeout == 0 {
		opts.ListTimeout = 5 * time.Second
	}
	if opts.Progress == 0 {
		opts.Progress = 30 * time.Second
	}
	if opts.PageSize == 0 {
		opts.PageSize = 1000
	}
	if opts.Resync == 0 {
		opts.Resync = 5 * time.Minute
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := &Hub{
		client: client, opts: opts, cancel: cancel,
		lists: make(chan struct{}, 16), done: make(chan struct{}),
		watcher: clientv3.NewWatcher(client),
	}
	go h.watchdog(ctx)
	return h
}

// Close ends the hub's streams. It is idempotent.
func (h *Hub) Close() {
	h.cancel()
	<-h.done
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.watcher.Close() // says only that it was closed
}

// Observe takes note of the header of any answer of etcd.
func (h *Hub) Observe(header *pb.ResponseHeader) {
	for rev := header.GetRevision(); ; {
		seen := h.highest.Load()
		if rev <= seen || h.highest.CompareAndSwap(seen, rev) {
			return
		}
	}
}

// Highest is the highest revision seen.
func (h *Hub) Highest() int64 { return h.highest.Load() }

// Check compares the header of a linearizable read with the highest revision that was known before it was asked for.
func (h *Hub) Check(before int64, header *pb.ResponseHeader) error {
	h.mu.Lock()
	if h.cluster == 0 {
		h.cluster = header.GetClusterId()
	}
	other := h.cluster != header.GetClusterId()
	h.mu.Unlock()
	var err error
	switch {
	case other:
		err = fmt.Errorf("%w: it is another cluster than before", ErrRewound)
	case header.GetRevision() < before:
		err = fmt.Errorf("%w: its revision is %d, after %d was seen", ErrRewound, header.GetRevision(), before)
	default:
		h.Observe(header)
		return nil
	}
	if h.opts.OnRewound != nil {
		h.rewound.Do(func() { h.opts.OnRewound(err) })
	}
	return err
}

// Follow feeds the sink until ctx ends, and returns then. Every failure in between is retried with backoff. The
// revisions that the sink is told never fall.
func (h *Hub) Follow(ctx context.Context, prefix string, sink Sink) {
	ctx = clientv3.WithRequireLeader(ctx)
	var next int64 // the revision to watch from; 0: list first
	var resync time.Time
	for failures := 0; ctx.Err() == nil; {
		if next == 0 {
			kvs, rev, err := h.List(ctx, prefix)
			if err != nil {
				failures++
				h.report(ctx, prefix, err)
				pause(ctx, failures)
				continue
			}
			sink.Reset(kvs, rev)
			next = rev + 1
			resync = time.Now().Add(h.opts.Resync - rand.N(h.opts.Resync/5+1))
		}
		watching, cancel := context.WithDeadline(ctx, resync)
		heard, err := h.watch(watching, prefix, &next, sink)
		due := watching.Err() != nil
		cancel()
		if heard {
			failures = 0
		}
		switch {
		case ctx.Err() != nil:
		case due:
			next = 0
		case errors.Is(err, errReplaced):
			pause(ctx, 1) // there is nothing wrong with the prefix; but not all of them at the same moment
		case mutant.Is(mutant.SkipRelist) && errors.Is(err, rpctypes.ErrCompacted):
			next = h.Highest() + 1
		case errors.Is(err, rpctypes.ErrCompacted):
			next = 0
		case err != nil:
			failures++
			if failures > 3 {
				next = 0 // a watch that cannot be had is no news: list again
			}
			h.report(ctx, prefix, err)
			pause(ctx, failures)
		}
	}
}

func (h *Hub) report(ctx context.Context, prefix string, err error) {
	if h.opts.OnError != nil && ctx.Err() == nil {
		h.opts.OnError(prefix, err)
	}
}

// errReplaced says that the watchdog made new streams.
var errReplaced = errors.New("streams are made anew")

// watch follows from revision *next on, and returns when the watch ends.
func (h *Hub) watch(ctx context.Context, prefix string, next *int64, sink Sink) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := h.current()
	err = errors.New("watch ended")
	for resp := range w.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(*next), clientv3.WithProgressNotify()) {
		if err = resp.Err(); err != nil {
			break
		}
		heard = true
		h.heard.Store(h.period.Load())
		h.Observe(resp.Header)
		if len(resp.Events) > 0 {
			// Not the header's revision: a watch that catches up gets its events in portions, and there it is etcd's latest.
			revision := resp.Events[len(resp.Events)-1].Kv.ModRevision
			*next = revision + 1
			sink.Apply(resp.Events, revision)
		} else if resp.IsProgressNotify() {
			*next = resp.Header.Revision + 1
		}
		err = errors.New("watch ended")
	}
	if h.current() != w {
		err = errReplaced
	}
	return heard, err
}

func (h *Hub) current() clientv3.Watcher {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.watcher
}

// List reads all keys below a prefix, in pages at one revision.
func (h *Hub) List(ctx context.Context, prefix string) ([]*mvccpb.KeyValue, int64, error) {
	select {
	case h.lists <- struct{}{}:
		defer func() { <-h.lists }()
	case <-ctx.Done():
		return nil, 0, context.Cause(ctx)
	}
	var kvs []*mvccpb.KeyValue
	var rev int64
	key, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	for {
		opts := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(h.opts.PageSize)}
		if rev != 0 {
			opts = append(opts, clientv3.WithRev(rev))
		}
		before := h.highest.Load()
		resp, err := h.get(ctx, key, opts...)
		if err != nil {
			return nil, 0, fmt.Errorf("list %s: %w", prefix, err)
		}
		if err := h.Check(before, resp.Header); err != nil {
			return nil, 0, err
		}
		if rev == 0 {
			rev = resp.Header.Revision
		}
		kvs = append(kvs, resp.Kvs...)
		if !resp.More || len(resp.Kvs) == 0 {
			return kvs, rev, nil
		}
		key = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

func (h *Hub) get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, h.opts.ListTimeout)
	defer cancel()
	return h.client.Get(ctx, key, opts...)
}

// watchdog asks every stream for progress, and replaces the streams when nothing was heard for three periods: a watch
// can hang without an error, however it was asked for.
func (h *Hub) watchdog(ctx context.Context) {
	defer close(h.done)
	tick := time.NewTicker(h.opts.Progress)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		before := h.highest.Load()
		if resp, err := h.get(ctx, h.opts.Probe, clientv3.WithKeysOnly()); err == nil {
			_ = h.Check(before, resp.Header) // OnRewound tells
		}
		if h.period.Add(1)-h.heard.Load() > 3 {
			h.heard.Store(h.period.Load())
			h.mu.Lock()
			old := h.watcher
			h.watcher = clientv3.NewWatcher(h.client)
			h.mu.Unlock()
			h.report(ctx, "", fmt.Errorf("nothing was heard for %v", 4*h.opts.Progress))
			_ = old.Close() // its watches end, and Follow makes them anew
			continue
		}
		asking, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), h.opts.Progress)
		_ = h.current().RequestProgress(asking) // no answer is what the periods are counted for
		cancel()
	}
}

// pause waits before another try: 50 ms doubled with each failure up to 2 s, with jitter, or until ctx ends.
func pause(ctx context.Context, failures int) {
	d := min(50*time.Millisecond<<min(failures-1, 6), 2*time.Second)
	d -= rand.N(d/2 + 1)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
