package follow

import (
	"context"
	"errors"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/internal/wire"
)

// errClosed says that the watcher was closed.
var errClosed = errors.New("the watcher is closed")

// watcher carries many watches over one stream, and opens the stream again when it is lost, as the client's watcher
// does. But the client's watcher asks for a watch only when etcd has answered about the one before, so that n watches
// take n round trips; this one asks for all of them at once. etcd handles what comes on a stream in order, so n watches
// take about one.
type watcher struct {
	remote  pb.WatchClient
	hears   func(*pb.ResponseHeader) // called with each answer of a stream to which watches there are already
	ctx     context.Context          // ends the streams
	end     context.CancelFunc
	serving sync.WaitGroup // run, and what it has started

	mu      sync.Mutex
	closed  bool
	runs    bool              // run is going on, and will see each watch that is added
	watches map[int64]*watch  // by the id that etcd is asked to give them
	wholes  map[string]*watch // those that have parts, by prefix
	last    int64             // the last such id
	session *session          // nil: no stream is open
}

// firstID is below the ids that etcd is asked to give watches. They are far above those that etcd chooses, so that an
// answer shows whether etcd has done what it was asked.
const firstID = 1 << 32

// watch is one watch of a watcher.
type watch struct {
	of      *watcher
	id      int64 // that etcd is asked to give it
	etcdID  int64 // that etcd has given it on this session
	prefix  string
	next    int64         // the revision to watch from, on this stream and the next; 0: from now on
	passed  int64         // all that happened before this revision was taken from the queue; 0: not known
	opened  chan struct{} // closed when etcd has made the watch
	created bool          // opened is closed
	queue   []*pb.WatchResponse
	err     error         // why the watch has ended; what is in the queue comes before
	news    chan struct{} // holds a token when queue or err has changed; nil: nobody has waited for that yet

	whole *watch  // of a part: the watch that it is fed by
	part  *part   // of a part: what is woken up for news
	parts *shares // of a watch that feeds others; nil: it does not
}

func newWatcher(client *clientv3.Client, hears func(*pb.ResponseHeader)) *watcher {
	ctx, end := context.WithCancel(clientv3.WithRequireLeader(context.Background()))
	return &watcher{
		remote: newRefusals(client), hears: hears, ctx: ctx, end: end, watches: map[int64]*watch{}, last: firstID,
	}
}

// Close ends the stream and all watches. Further calls do nothing.
func (w *watcher) Close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.end()
	w.serving.Wait()
}

// ask asks for a watch of a prefix from a revision on, or from now on if the revision is 0. The caller calls close.
func (w *watcher) ask(prefix string, rev int64) (*watch, error) {
	x := &watch{of: w, prefix: prefix, next: rev, opened: make(chan struct{})}
	return x, w.add(x)
}

// wait waits until etcd has made the watch.
func (x *watch) wait(ctx context.Context) error {
	for {
		news, err := x.listen()
		if err != nil {
			return err
		}
		select {
		case <-x.opened:
			return nil
		case <-news:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// listen returns what holds a token when something has changed from now on, and the error that the watch has ended with
// before.
func (x *watch) listen() (news <-chan struct{}, failed error) {
	x.of.mu.Lock()
	defer x.of.mu.Unlock()
	if x.news == nil {
		x.news = make(chan struct{}, 1)
	}
	return x.news, x.err
}

func (w *watcher) add(x *watch) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.addLocked(x)
}

func (w *watcher) addLocked(x *watch) error {
	if w.closed {
		return errClosed
	}
	w.last++
	x.id = w.last
	w.watches[x.id] = x
	if w.session != nil {
		w.session.ask(x)
	}
	if !w.runs {
		w.runs = true
		w.serving.Go(w.run)
	}
	return nil
}

// close ends a watch. Further calls do nothing.
func (x *watch) close() {
	w := x.of
	w.mu.Lock()
	defer w.mu.Unlock()
	if x.whole != nil {
		x.whole.leave(x)
	} else {
		x.closeLocked()
	}
}

func (x *watch) closeLocked() {
	w := x.of
	if w.watches[x.id] != x {
		return
	}
	delete(w.watches, x.id)
	if w.session == nil {
		return
	}
	if w.session.cancel(x); len(w.watches) == 0 {
		w.session.unused = true
		w.session.end()
		w.session = nil // the next watch gets another stream
	}
}

// errDue says that the time was up before an answer came.
var errDue = errors.New("it is time for something else")

// recv returns the next answer about a watch, or why there will be none; errDue if due fires first. An answer has
// events, or tells of progress of this watch alone.
func (x *watch) recv(ctx context.Context, due <-chan time.Time) (*pb.WatchResponse, error) {
	for {
		news, _ := x.listen() // before it looks, so that nothing comes unnoticed in between
		if resp, err := x.take(); resp != nil || err != nil {
			return resp, err
		}
		select {
		case <-news:
		case <-due:
			return nil, errDue
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// hasNews says whether recv would return at once.
func (x *watch) hasNews() bool {
	x.of.mu.Lock()
	defer x.of.mu.Unlock()
	return len(x.queue) > 0 || x.err != nil
}

func (x *watch) take() (resp *pb.WatchResponse, err error) {
	x.of.mu.Lock()
	defer x.of.mu.Unlock()
	if len(x.queue) == 0 {
		x.queue = nil
		return nil, x.err
	}
	resp, x.queue[0] = x.queue[0], nil
	x.queue = x.queue[1:]
	return resp, nil
}

// reached returns the revision up to which everything was taken, as far as answers about all watches tell; 0: they tell
// nothing.
func (x *watch) reached() int64 {
	x.of.mu.Lock()
	defer x.of.mu.Unlock()
	return x.reachedLocked()
}

func (x *watch) reachedLocked() int64 {
	if x.whole != nil && x.err == nil && len(x.queue) == 0 {
		return x.whole.next // what it has dealt was taken
	}
	return x.passed
}

// tell wakes up who waits for the watch. The caller holds the watcher's mu.
func (x *watch) tell() {
	if x.part != nil && x.part.wake() || x.news == nil {
		return
	}
	select {
	case x.news <- struct{}{}:
	default:
	}
}

// requestProgress asks etcd to tell on the stream how far it has come, if a stream is open.
func (w *watcher) requestProgress() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session != nil {
		w.session.post(&pb.WatchRequest{
			RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}},
		})
	}
}

// The pauses before a stream that was lost is opened again.
const (
	firstReopen = time.Millisecond
	maxReopen   = 100 * time.Millisecond
)

// run opens a stream for as long as there are watches.
func (w *watcher) run() {
	pauses := pace.New(firstReopen, maxReopen, pauseShare)
	for w.hasAny() {
		heard, err := w.serve()
		switch {
		case w.ctx.Err() != nil:
			w.fail(errClosed)
		case err != nil && isFinal(err):
			w.fail(clientv3.ContextError(w.ctx, err))
		case err != nil:
			if heard {
				pauses.Reset()
			}
			pauses.Wait(w.ctx)
		}
	}
}

// hasAny says whether there are watches. If not, run is over.
func (w *watcher) hasAny() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.runs = len(w.watches) > 0
	return w.runs
}

// fail ends all watches with an error.
func (w *watcher) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, x := range w.watches {
		delete(w.watches, id)
		x.end(err)
	}
}

// end ends a watch with an error, after what is in its queue. The caller holds the watcher's mu.
func (x *watch) end(err error) {
	x.err = err
	x.tell()
	x.endParts(err)
}

// isFinal says whether an error of a stream is one that another stream will not mend: etcd has refused something, or
// knows no leader. (The client's watcher draws the line in the same place.)
func isFinal(err error) bool {
	if errors.Is(rpctypes.Error(err), rpctypes.ErrNoLeader) {
		return true
	}
	code := status.Code(err)
	return code != codes.Unavailable && code != codes.Internal
}

// serve opens a stream, and serves the watches until it ends. err is nil if it ended because no watch is left.
func (w *watcher) serve() (heard bool, err error) {
	ctx, end := context.WithCancel(w.ctx)
	defer end()
	stream, err := w.remote.Watch(ctx, wire.Options...)
	if err != nil {
		return false, err
	}
	s := newSession(end)
	var sending sync.WaitGroup
	sending.Go(func() { s.send(ctx, stream) })
	defer sending.Wait()
	defer end()
	if !w.begin(s) {
		return false, nil
	}
	for {
		resp, err := stream.Recv()
		heard = heard || err == nil
		// What is about all watches has no reader, nor has what is about a watch of a whole range, unless it has events
		// for a part that is followed.
		if err == nil && !resp.Created && !resp.Canceled {
			w.hears(resp.Header)
		}
		if over, err := w.take(s, resp, err); over {
			return heard, err
		}
	}
}

// take hands an answer on, or takes note of the error that ends the stream. It returns what serve is to return, if the
// stream is over.
func (w *watcher) take(s *session, resp *pb.WatchResponse, failed error) (over bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if failed == nil {
		s.take(w, resp)
		failed = s.broken
	}
	switch {
	case s.unused:
		return true, nil
	case failed == nil:
		return false, nil
	}
	w.session = nil
	return true, failed
}

// begin asks for all watches on a new stream. It returns false if there are none.
func (w *watcher) begin(s *session) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.watches) == 0 {
		return false
	}
	w.session = s
	for _, x := range w.watches {
		s.ask(x)
	}
	return true
}
