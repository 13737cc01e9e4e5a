package follow

import (
	"context"
	"errors"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// session is a watcher's open stream. The watcher's mu guards it, except for the outbox.
//
// Each watch is asked for with an id, and etcd uses it, so that its answers tell which watch they are about in whatever
// order they come. Old etcds (before 3.4) and proxies choose ids themselves; an answer about a new watch then does not
// tell which one is meant, and so watches are asked for one after the other. The answer about the first watch shows
// which it is.
type session struct {
	end     context.CancelFunc // ends the stream
	unused  bool               // the stream was ended because there were no watches any more
	obeys   bool               // etcd uses the ids that it is asked to use
	known   bool               // obeys is known
	asked   *watch             // unless etcd obeys: the watch that was asked for last; nil: etcd has answered
	waiting []*watch           // to be asked for when etcd has answered
	broken  error              // why the stream cannot be used any more; nil: it can
	by      map[int64]*watch   // those that etcd has made, by etcd's id

	out    sync.Mutex // guards outbox
	outbox []*pb.WatchRequest
	filled chan struct{} // holds a token when there is something in outbox
}

// everyWatch is the id of an answer that is about all watches of a stream.
const everyWatch = -1

func newSession(end context.CancelFunc) *session {
	return &session{end: end, by: map[int64]*watch{}, filled: make(chan struct{}, 1)}
}

// post sends a request after those before it. It does not wait.
func (s *session) post(req *pb.WatchRequest) {
	s.out.Lock()
	defer s.out.Unlock()
	s.outbox = append(s.outbox, req)
	select {
	case s.filled <- struct{}{}:
	default:
	}
}

// send sends what was posted until ctx ends, or the stream.
func (s *session) send(ctx context.Context, stream pb.Watch_WatchClient) {
	for {
		select {
		case <-s.filled:
		case <-ctx.Done():
			return
		}
		s.out.Lock()
		reqs := s.outbox
		s.outbox = nil
		s.out.Unlock()
		for _, req := range reqs {
			if stream.Send(req) != nil {
				return // Recv tells why
			}
		}
	}
}

// ask asks for a watch, as soon as that may be.
func (s *session) ask(x *watch) {
	if !s.obeys && s.asked != nil {
		s.waiting = append(s.waiting, x)
		return
	}
	if !s.obeys {
		s.asked = x
	}
	s.post(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: []byte(x.prefix), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(x.prefix)),
		StartRevision: x.next, WatchId: x.id,
		ProgressNotify: !s.obeys, // an etcd that obeys tells of progress when it is asked
	}}})
}

// cancel tells etcd that a watch is not needed any more.
func (s *session) cancel(x *watch) {
	switch {
	case s.by[x.etcdID] == x:
		delete(s.by, x.etcdID)
		s.drop(x.etcdID)
	case s.obeys:
		s.drop(x.id) // etcd makes it first
	}
}

func (s *session) drop(id int64) {
	s.post(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{
		CancelRequest: &pb.WatchCancelRequest{WatchId: id},
	}})
}

// take hands an answer to the watches that it is about.
func (s *session) take(w *watcher, resp *pb.WatchResponse) {
	switch {
	case resp.Created:
		s.made(w, resp)
	case resp.Canceled:
		if x := s.by[resp.WatchId]; x != nil {
			delete(s.by, resp.WatchId)
			delete(w.watches, x.id)
			x.end(reasonOf(resp))
		}
	case resp.WatchId == everyWatch:
		for _, x := range s.by {
			x.pass(resp.Header.GetRevision())
		}
	default:
		if x := s.by[resp.WatchId]; x != nil {
			x.put(resp)
		}
	}
}

// made takes the answer to a request for a watch.
func (s *session) made(w *watcher, resp *pb.WatchResponse) {
	var x *watch
	if s.obeys {
		if x = w.watches[resp.WatchId]; resp.WatchId == everyWatch && resp.Canceled {
			s.broken = reasonOf(resp) // etcd does not tell which watch it does not make
		}
	} else {
		x, s.asked = s.asked, nil
		if !s.known && x != nil {
			s.known, s.obeys = true, resp.WatchId == x.id
		}
		defer s.goOn(w)
	}
	switch {
	case x == nil || w.watches[x.id] != x: // it was closed meanwhile
		if !resp.Canceled && !s.obeys {
			s.drop(resp.WatchId)
		}
	case resp.Canceled:
		delete(w.watches, x.id)
		x.end(reasonOf(resp))
	default:
		s.by[resp.WatchId], x.etcdID = x, resp.WatchId
		if x.next == 0 {
			x.next = resp.Header.GetRevision() // the watch begins here or later
		}
		if !x.created {
			x.created = true
			close(x.opened)
		}
	}
}

// goOn asks for what waits, as far as it may.
func (s *session) goOn(w *watcher) {
	for len(s.waiting) > 0 && (s.obeys || s.asked == nil) {
		x := s.waiting[0]
		s.waiting = s.waiting[1:]
		if w.watches[x.id] == x {
			s.ask(x)
		}
	}
}

// put adds an answer to what the watch has not taken yet.
func (x *watch) put(resp *pb.WatchResponse) {
	if n := len(resp.Events); n > 0 {
		x.next = resp.Events[n-1].Kv.ModRevision + 1
	} else {
		x.next = max(x.next, resp.Header.GetRevision()+1)
	}
	if x.parts != nil {
		x.deal(resp)
		return
	}
	x.queue = append(x.queue, resp)
	x.tell()
}

// pass notes that nothing happened up to a revision that etcd has not told already. There may be thousands of watches
// on a stream, so whoever waits for one is not woken up for that.
func (x *watch) pass(revision int64) {
	x.next = max(x.next, revision+1)
	if len(x.queue) == 0 {
		x.passed = x.next
	}
}

// reasonOf returns why etcd has ended a watch, or has not made it.
func reasonOf(resp *pb.WatchResponse) error {
	switch {
	case resp.CompactRevision != 0:
		return rpctypes.ErrCompacted
	case resp.CancelReason != "":
		return rpctypes.Error(status.Error(codes.FailedPrecondition, resp.CancelReason))
	}
	return errors.New("etcd has ended the watch, and does not say why")
}
