package follow

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/clock"
	"github.com/distributed-resource-manager/drm/lease"
)

// doubtPause is the least time between two probes that a doubt asks for. A member of etcd that lags all the time causes
// doubts all the time.
const doubtPause = time.Second

// Shared lets the hubs of one client share its streams, the shared reads of lists, the renewal of leases, and what is
// known of etcd's revision. While there is no hub, it keeps nothing open. It is safe for concurrent use.
type Shared struct {
	client *clientv3.Client
	leaps  clock.Leaps

	mu    sync.Mutex
	trunk *trunk // of the hubs that are made next, if it can still be joined
}

// NewShared shares a client, which it does not close.
func NewShared(client *clientv3.Client) *Shared { return &Shared{client: client} }

// Leaps tells when the system's clock has leapt ahead, since the machine slept.
func (s *Shared) Leaps() *clock.Leaps { return &s.leaps }

// join gives a hub its trunk. Hubs that begin after etcd went back in time have another trunk than those before: they
// know nothing of the old history.
func (s *Shared) join(h *Hub) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trunk == nil || !s.trunk.add(h) {
		s.trunk = newTrunk(s.client, h.opts.Progress)
		s.trunk.add(h)
	}
}

// trunk is what hubs of one client have in common.
type trunk struct {
	client   *clientv3.Client
	renewer  *lease.Renewer
	rounds   *lease.Rounds
	progress time.Duration
	further  chan struct{} // limits how many lists read pages after their first one
	firsts   firsts

	mu      sync.Mutex
	hubs    map[*Hub]struct{}
	closing bool // the last hub has left
	cluster uint64
	rewound error // why the store is known to be rewound; nil until it is

	wholes  wholes
	lanes   [1 + sharedLanes]*lane // the first one is for FollowApart
	highest atomic.Int64
	heard   atomic.Int64  // how many headers of answers were seen
	period  atomic.Int64  // how many periods of progress have begun
	doubt   chan struct{} // holds a token when an answer was older than an earlier one, which may be harmless

	cancel context.CancelFunc
	done   chan struct{} // closed when the watchdog has ended
	closed chan struct{} // closed when everything has ended
}

func newTrunk(client *clientv3.Client, progress time.Duration) *trunk {
	ctx, cancel := context.WithCancel(context.Background())
	t := &trunk{
		client: client, renewer: lease.NewRenewer(client), progress: progress, cancel: cancel,
		hubs: map[*Hub]struct{}{}, further: make(chan struct{}, listsAtOnce), doubt: make(chan struct{}, 1),
		done: make(chan struct{}), closed: make(chan struct{}),
	}
	t.rounds = lease.NewRounds(t.renewer, lease.RoundsOptions{
		Clock: clock.System(), Check: t.Observe,
		Ready: func() error { _, err := t.before(); return err },
	})
	t.firsts.ctx = clientv3.WithRequireLeader(ctx)
	for i := range t.lanes {
		t.lanes[i] = t.newLane()
	}
	go t.watchdog(ctx)
	return t
}

// add makes the trunk that of a hub. It returns false if the trunk is no use to a new hub.
func (t *trunk) add(h *Hub) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closing || t.rewound != nil {
		return false
	}
	h.trunk = t
	t.hubs[h] = struct{}{}
	return true
}

// leave takes a hub away. The last one closes the trunk, and each later call waits for that.
func (t *trunk) leave(h *Hub) {
	t.mu.Lock()
	delete(t.hubs, h)
	last := len(t.hubs) == 0 && !t.closing
	t.closing = t.closing || last
	closing := t.closing
	t.mu.Unlock()
	switch {
	case last:
		t.cancel()
		<-t.done
		t.firsts.close()
		t.rounds.Close()
		t.renewer.Close()
		for _, l := range t.lanes {
			l.current().Close()
		}
		close(t.closed)
	case closing:
		<-t.closed
	}
}

// all returns the hubs that are there.
func (t *trunk) all() []*Hub {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Keys(t.hubs))
}

// Observe takes note of the header of an answer that may be older than what was known when it was asked for: the answer
// to a keepalive, or a watch. If its revision is older, the probe is read at once. Observe returns the error of Check.
func (t *trunk) Observe(header *pb.ResponseHeader) error {
	if err := t.Check(0, header); err != nil {
		return err
	}
	if header.GetRevision() < t.Highest() {
		select {
		case t.doubt <- struct{}{}:
		default:
		}
	}
	return nil
}

// Highest is the highest revision seen.
func (t *trunk) Highest() int64 { return t.highest.Load() }

// Heard is how many answers of etcd were seen, to any request. It grows as long as etcd answers at all.
func (t *trunk) Heard() int64 { return t.heard.Load() }

// Check compares the header of a linearizable answer with the highest revision that was known before the request. The
// error is an ErrRewound, which every later Check and Observe returns too.
func (t *trunk) Check(before int64, header *pb.ResponseHeader) error {
	t.heard.Add(1)
	first, err := t.judge(before, header)
	if first {
		for _, h := range t.all() {
			if h.opts.OnRewound != nil {
				h.opts.OnRewound(err)
			}
		}
	}
	return err
}

// judge does what Check does, except for calling OnRewound; first says that it is to be called now.
func (t *trunk) judge(before int64, header *pb.ResponseHeader) (first bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rewound != nil {
		return false, t.rewound
	}
	if t.cluster == 0 {
		t.cluster = header.GetClusterId()
	}
	rev := header.GetRevision()
	switch {
	case t.cluster != header.GetClusterId():
		t.rewound = fmt.Errorf("%w: it is another cluster than before", ErrRewound)
	case rev < before:
		t.rewound = fmt.Errorf("%w: its revision is %d, after %d was seen", ErrRewound, rev, before)
	default:
		t.highest.Store(max(rev, t.highest.Load()))
		return false, nil
	}
	return true, t.rewound
}

// probe reads the key of the hub that waits the shortest, so that the header of the answer shows whether the store was
// rewound. Errors are ignored: OnRewound reports a rewound store, and other failures show elsewhere.
func (t *trunk) probe(ctx context.Context) {
	hubs := t.all()
	if len(hubs) == 0 {
		return
	}
	h := slices.MinFunc(hubs, func(a, b *Hub) int { return cmp.Compare(a.opts.ListTimeout, b.opts.ListTimeout) })
	ctx, cancel := context.WithTimeout(ctx, h.opts.ListTimeout)
	defer cancel()
	_, _ = h.KV().Get(ctx, h.opts.Probe, clientv3.WithKeysOnly())
}

// watchdog asks every stream for progress, and replaces a stream on which nothing was heard for three periods: a watch
// can hang without an error, whatever options it was opened with.
func (t *trunk) watchdog(ctx context.Context) {
	defer close(t.done)
	tick := time.NewTicker(t.progress)
	defer tick.Stop()
	var probed time.Time
	for {
		doubted := false
		select {
		case <-ctx.Done():
			return
		case <-t.doubt:
			if time.Since(probed) < doubtPause {
				continue // the next keepalive will come, and raise the doubt again
			}
			doubted = true
		case <-tick.C:
		}
		probed = time.Now()
		t.probe(ctx)
		if !doubted {
			t.askAll(ctx)
		}
	}
}
