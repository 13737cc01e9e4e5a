// Package follow keeps a reader up to date with all keys below a prefix of etcd: first a list at one revision, then
// each change after it, in order and without a gap. After a compaction, a lost leader or a stream that hangs, the
// reader gets a fresh list and needs to know nothing about it.
//
// A Hub manages the watches of one owner. It asks for progress at intervals, replaces streams on which nothing is
// heard, and notices when etcd went back in time. Hubs of one client may share their streams (Shared).
package follow

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/login"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/internal/txn"
)

// ErrRewound says that a linearizable read returned an older revision than one seen before, or came from another
// cluster: etcd was restored from a snapshot, or replaced.
var ErrRewound = errors.New("etcd was rewound or replaced")

// Sink receives what a followed prefix holds. The calls come one at a time. They must not block for long, because
// events that are not taken pile up in the client.
type Sink interface {
	// Reset replaces everything that was known: kvs is everything below the prefix at revision.
	Reset(kvs []*mvccpb.KeyValue, revision int64)
	// Apply reports changes in the order of their revisions; the changes of one transaction come together. revision is
	// that of the last change, and together with the changes what is known is everything below the prefix at that
	// revision. Keys and values share their memory, as those of Reset do: copy what is kept for longer than the others.
	Apply(events []*clientv3.Event, revision int64)
}

// Options tune a Hub. Zero values take the defaults.
type Options struct {
	// ListTimeout bounds each page of a list. Default 5 s.
	ListTimeout time.Duration
	// Progress is the pause between two requests for progress, which let quiet prefixes resume near the newest
	// revision. A stream with no answer to three of them is replaced. With a shorter pause, hanging streams and rewound
	// stores are noticed sooner, and etcd is asked more often. Among hubs that share streams, that of the first one
	// counts. Default 30 s.
	Progress time.Duration
	// Probe is a key that is read at each Progress, and when an answer raises a doubt, to notice a store that was
	// rewound. Required.
	Probe string
	// OnRewound, if given, is called once, on the goroutine that notices the rewound store. It must not wait for the
	// hub.
	OnRewound func(error)
	// OnError, if given, is called with each failure of a list or a watch that is about to be repeated, from many
	// goroutines. The prefix is empty if nothing was heard on a whole stream. It is meant for a log, since some
	// failures (no permission, for example) do not pass by themselves.
	OnError func(prefix string, err error)
	// PageSize is how many keys a page of a list may have. Default 1000.
	PageSize int64
	// Resync is how long a reader goes by its watch before etcd is asked whether anything was missed, so that an event
	// that a watch has silently lost does not stay lost. A reader that has heard of changes since its last list gets a
	// fresh one; for another one, a proof that nothing has changed is enough. Each prefix takes up to a fifth less, at
	// random, so that the prefixes do not list together. A lower value repairs sooner, and reads everything more often.
	// Default 5 min.
	Resync time.Duration
	// Limits is what etcd takes in one transaction, shared with those who write to it. Default: its own.
	Limits *txn.Limits
}

// Hub follows prefixes for one owner, who closes it after every Follow has returned.
type Hub struct {
	*trunk
	opts Options
}

// NewHub makes a hub on a client, which it does not close.
func NewHub(client *clientv3.Client, opts Options) *Hub { return NewShared(client).NewHub(opts) }

// NewHub makes a hub that shares what it can with the others.
func (s *Shared) NewHub(opts Options) *Hub {
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
	if opts.Limits == nil {
		opts.Limits = new(txn.Limits)
	}
	h := &Hub{opts: opts}
	s.join(h)
	return h
}

// Close ends the hub. The last hub that shares streams ends them, also those of Leases. Further calls do nothing.
func (h *Hub) Close() { h.leave(h) }

// Follow feeds the sink until ctx ends, and then returns. It repeats after every failure, with growing pauses. The
// revisions that the sink is given never fall.
func (h *Hub) Follow(ctx context.Context, prefix string, sink Sink) {
	h.followOn(ctx, h.shared(prefix), prefix, sink)
}

// FollowApart is Follow over a stream that no Follow uses. It is for the prefix whose changes must not wait for others.
func (h *Hub) FollowApart(ctx context.Context, prefix string, sink Sink) {
	h.followOn(ctx, h.lanes[0], prefix, sink)
}

func (h *Hub) followOn(ctx context.Context, l *lane, prefix string, sink Sink) {
	r := &reader{prefix: prefix, sink: sink}
	r.use(l)
	defer r.leave()
	h.follow(ctx, r)
}

// reader is one prefix that is followed. At any time one goroutine at most uses it.
type reader struct {
	prefix string
	sink   Sink
	lane   *lane
	at     place
	open   *watch // it is open, and there is nothing to take; nil: the reader has none
	part   *part  // what the reader is of; nil if it is not one of many
}

// use makes the reader's watches go over a lane.
func (r *reader) use(l *lane) {
	l.users.Add(1)
	r.lane = l
}

// leave ends what the reader has open.
func (r *reader) leave() {
	if r.open != nil {
		r.open.close()
		r.open = nil
	}
	r.lane.users.Add(-1)
}

// gathered says that the reader shares the watch of a whole range.
func (r *reader) gathered() bool { return r.part != nil && r.part.gathered }

// ask asks for the reader's watch.
func (r *reader) ask(w *watcher) (*watch, error) {
	if r.gathered() {
		r.at.next = 0 // that watch begins now, if it has not begun before
		return w.askPart(r.part)
	}
	return w.ask(r.prefix, r.at.next)
}

// follow feeds the sink until ctx ends, or until the reader is parked: then it returns true, and the reader must not be
// touched, since it may be at work again.
func (h *Hub) follow(ctx context.Context, r *reader) (parked bool) {
	at := &r.at
	pauses, refused := pace.New(firstPause, maxPause, pauseShare), pace.New(firstPause, maxRefusedPause, pauseShare)
	for failures := 0; ctx.Err() == nil; {
		heard, err := h.watch(ctx, r)
		if heard {
			failures = 0
			pauses.Reset()
			refused.Reset()
		}
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, errIdle):
			if r.part.park(ctx) {
				return true
			}
		case errors.Is(err, errApart):
			r.part.of.whole.apart(ctx, h)
			r.part.apart()
		case at.next != 0 && !time.Now().Before(at.resync):
			if errors.Is(err, errMissed) && r.gathered() {
				r.part.apart()
			}
			at.next = 0
		case errors.Is(err, errReplaced):
			// Nothing is wrong with the prefix, but the readers of the stream must not all return at the same moment.
			pace.Wait(ctx, pace.Less(firstPause, pauseShare))
		case errors.Is(err, rpctypes.ErrCompacted):
			at.next = 0
		case err != nil:
			failures++
			h.report(ctx, r.prefix, err)
			switch {
			case login.IsDenied(err):
				// A list shows whether it is the user who may not read, or the stream's token that is no longer good.
				at.next = 0
				refused.Wait(ctx)
			case login.IsRefused(err):
				refused.Wait(ctx)
			case failures > 3 && !login.IsStale(err):
				at.next = 0 // if a watch cannot be had, nothing is heard: list again
				pauses.Wait(ctx)
			default:
				pauses.Wait(ctx)
			}
		}
	}
	return false
}

// place is how far a reader has come.
type place struct {
	next   int64     // the revision to watch from; 0: list first
	resync time.Time // when the next fresh list is due, counted from the last one that succeeded
	sure   int64     // the revision of the last list, or up to which it was proven since that nothing has changed
	keys   int       // how many keys the last list had
	latest int64     // the revision at which one of them was modified last
	quiet  bool      // no event has come since the last list
}

// resyncAfter is how long a reader that has just listed goes by its watch, if nothing makes it list earlier.
func (h *Hub) resyncAfter() time.Duration {
	return pace.Less(h.opts.Resync, 0.2)
}

func (h *Hub) report(ctx context.Context, prefix string, err error) {
	if h.opts.OnError != nil && ctx.Err() == nil {
		h.opts.OnError(prefix, err)
	}
}

// errReplaced says that the watchdog has replaced the stream.
var errReplaced = errors.New("the stream is made anew")

// errMissed says that something has changed of which the watch has not told.
var errMissed = errors.New("the watch has missed something")

// errIdle says that a watch is open, that there is nothing to take from it, and that a goroutine need not wait for it.
var errIdle = errors.New("nothing has changed")

// listAnyway is how long a list waits for the watch that is to continue from it.
const listAnyway = time.Second

// watch follows from the revision at.next on, and returns when the watch ends or a fresh list is due. If at.next is 0,
// it opens a watch from now on and then lists, so that nothing is missed in between. A watch that is opened after the
// list has to begin in the past; during many writes etcd would serve it from its history, again and again, which costs
// etcd more than the writes do. If opening the watch takes long, it lists meanwhile, and once more when the watch has
// begun. A fresh list that falls due interrupts neither of them, or over a slow connection they would never finish.
//
// When a list is due, and no event has come since the last one, etcd is asked first whether anything has changed. If
// not, the watch goes on.
func (h *Hub) watch(ctx context.Context, r *reader) (heard bool, err error) {
	at, x := &r.at, r.open
	r.open = nil
	if x == nil {
		w := r.lane.current()
		if x, err = r.ask(w); err != nil {
			if r.lane.current() != w {
				err = errReplaced
			}
			return false, err
		}
	}
	defer func() {
		switch {
		case errors.Is(err, errIdle):
			r.open = x
			return
		case r.lane.current() != x.of && !errors.Is(err, errApart):
			err = errReplaced
		}
		x.close()
	}()
	if at.next == 0 {
		if err := h.begin(ctx, x, r); err != nil {
			return false, err
		}
	}
	defer func() { // after what was taken
		reached := x.reached()
		at.next, heard = max(at.next, reached), heard || reached > 0
	}()
	due := time.NewTimer(time.Until(at.resync))
	defer due.Stop()
	for {
		if r.gathered() && !x.hasNews() && time.Now().Before(at.resync) {
			return heard, errIdle
		}
		resp, err := x.recv(ctx, due.C)
		if errors.Is(err, errDue) && at.quiet {
			same, failed := h.prove(ctx, r)
			if same {
				due.Reset(time.Until(at.resync))
				continue
			}
			if failed == nil {
				err = errMissed
			}
		}
		if err != nil {
			return heard, err
		}
		heard = true
		r.lane.heard.Store(h.period.Load())
		if err := h.Observe(resp.Header); err != nil {
			return heard, err
		}
		if events := after(resp.Events, at.next); len(events) > 0 {
			// The header's revision would be wrong: a watch that catches up gets its events in portions, each with
			// etcd's latest revision in the header.
			revision := events[len(events)-1].Kv.ModRevision
			at.next, at.quiet = revision+1, false
			r.sink.Apply(events, revision)
		} else if len(resp.Events) == 0 {
			at.next = max(at.next, resp.Header.GetRevision()+1)
		}
	}
}

// begin waits until etcd has made a watch, and gives the sink everything that is there.
func (h *Hub) begin(ctx context.Context, x *watch, r *reader) error {
	list := func() error {
		kvs, rev, err := h.List(ctx, r.prefix)
		if err == nil {
			r.sink.Reset(kvs, rev)
			r.at = place{rev + 1, time.Now().Add(h.resyncAfter()), rev, len(kvs), lastOf(kvs), true}
		}
		return err
	}
	anyway, cancel := context.WithTimeout(ctx, listAnyway)
	defer cancel()
	err := x.wait(anyway)
	if err != nil && ctx.Err() == nil && anyway.Err() != nil {
		if err = list(); err == nil {
			err = x.wait(ctx)
		}
	}
	if err != nil {
		return err
	}
	return list() // the watch does not report what happened before it began
}

// after leaves out the events before a revision, because a list has already reported them.
func after(events []*clientv3.Event, revision int64) []*clientv3.Event {
	for len(events) > 0 && events[0].Kv.ModRevision < revision {
		events = events[1:]
	}
	return events
}

// The pauses before a request is repeated. If etcd has refused the user they grow longer: that does not pass by itself,
// and there may be hundreds of prefixes.
const (
	firstPause      = 50 * time.Millisecond
	maxPause        = 2 * time.Second
	maxRefusedPause = 15 * time.Second
	// pauseShare is the largest share by which a pause is shortened at random.
	pauseShare = 0.5
)
