package follow

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A script stands for etcd: the test reads what the watcher sends on each stream, and says what comes back. So it can
// answer in any order, which a real etcd cannot be made to do.
type script struct {
	streams chan *scripted
}

func (s *script) Watch(ctx context.Context, _ ...grpc.CallOption) (pb.Watch_WatchClient, error) {
	stream := &scripted{ctx: ctx, sent: make(chan *pb.WatchRequest), answers: make(chan any)}
	select {
	case s.streams <- stream:
		return stream, nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

type scripted struct {
	grpc.ClientStream
	ctx     context.Context
	sent    chan *pb.WatchRequest
	answers chan any // *pb.WatchResponse, or the error that ends the stream
}

func (s *scripted) Send(req *pb.WatchRequest) error {
	select {
	case s.sent <- req:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

func (s *scripted) Recv() (*pb.WatchResponse, error) {
	select {
	case a := <-s.answers:
		if err, is := a.(error); is {
			return nil, err
		}
		return a.(*pb.WatchResponse), nil
	case <-s.ctx.Done():
		return nil, status.FromContextError(s.ctx.Err()).Err()
	}
}

// play makes a watcher on a script.
func play(t *testing.T) (*watcher, *script) {
	t.Helper()
	s := &script{streams: make(chan *scripted)}
	ctx, end := context.WithCancel(t.Context())
	w := &watcher{
		remote: s, hears: func(*pb.ResponseHeader) {}, ctx: ctx, end: end, watches: map[int64]*watch{}, last: firstID,
	}
	t.Cleanup(w.Close)
	return w, s
}

// due bounds every step of a script.
func due(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func of[T any](t *testing.T, c <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-c:
	case <-due(t).Done():
		t.Fatal("nothing came")
	}
	return got
}

func (s *scripted) create(t *testing.T) *pb.WatchCreateRequest {
	t.Helper()
	req := of(t, s.sent)
	if req.GetCreateRequest() == nil {
		t.Fatalf("got %v, want a request for a watch", req)
	}
	return req.GetCreateRequest()
}

func (s *scripted) answer(t *testing.T, a any) {
	t.Helper()
	select {
	case s.answers <- a:
	case <-due(t).Done():
		t.Fatal("nobody reads the stream")
	}
}

func madeAs(id, revision int64) *pb.WatchResponse {
	return &pb.WatchResponse{Header: &pb.ResponseHeader{Revision: revision}, WatchId: id, Created: true}
}

func eventAs(id, revision int64) *pb.WatchResponse {
	return &pb.WatchResponse{
		Header: &pb.ResponseHeader{Revision: revision}, WatchId: id,
		Events: []*mvccpb.Event{{Kv: &mvccpb.KeyValue{Key: []byte("k"), ModRevision: revision}}},
	}
}

// seen waits for the next event of a watch, and returns its revision.
func (x *watch) seen(t *testing.T) int64 {
	t.Helper()
	resp, err := x.recv(due(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

func (w *watcher) all(t *testing.T, prefixes ...string) (all []*watch) {
	t.Helper()
	for _, p := range prefixes {
		x, err := w.ask(p, 0)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, x)
	}
	return all
}

// begun asks for the first watch of a stream, and lets etcd make it at revision 5, under the id that it was given.
func (w *watcher) begun(t *testing.T, etcd *script, prefix string) (x *watch, s *scripted, id int64) {
	t.Helper()
	x = w.all(t, prefix)[0]
	s = of(t, etcd.streams)
	id = s.create(t).WatchId
	s.answer(t, madeAs(id, 5))
	mustOpen(t, x)
	return x, s, id
}

func mustOpen(t *testing.T, all ...*watch) {
	t.Helper()
	for _, x := range all {
		if err := x.wait(due(t)); err != nil {
			t.Fatal(err)
		}
	}
}

// All watches are asked for before the answers come, which may come in any order.
func TestWatchesDoNotWaitForEachOther(t *testing.T) {
	w, etcd := play(t)
	x := w.all(t, "/a/", "/b/", "/c/", "/d/")
	s := of(t, etcd.streams)
	req := s.create(t)
	ids := map[string]int64{string(req.Key): req.WatchId}
	first := string(req.Key)
	s.answer(t, madeAs(req.WatchId, 5)) // etcd uses the id that it was asked to use
	for range 3 {
		req := s.create(t)
		ids[string(req.Key)] = req.WatchId
	}
	if len(ids) != 4 {
		t.Fatalf("watches were asked for of %v, want of 4 prefixes", ids)
	}
	for _, prefix := range []string{"/d/", "/c/", "/b/", "/a/"} {
		if prefix != first {
			s.answer(t, madeAs(ids[prefix], 5))
		}
	}
	mustOpen(t, x...)
	for i, prefix := range []string{"/a/", "/b/", "/c/", "/d/"} {
		s.answer(t, eventAs(ids[prefix], int64(10+i)))
		if got := x[i].seen(t); got != int64(10+i) {
			t.Errorf("%s heard of revision %d, want %d", prefix, got, 10+i)
		}
	}
	s.answer(t, &pb.WatchResponse{Header: &pb.ResponseHeader{Revision: 20}, WatchId: everyWatch})
	s.answer(t, eventAs(ids["/a/"], 21))
	if got := x[0].seen(t); got != 21 {
		t.Errorf("it heard of revision %d, want 21", got)
	}
	for i := range x { // nobody is woken up for the progress
		if got := x[i].reached(); got != 21 {
			t.Errorf("watch %d has heard of all before revision %d, want the progress to 20", i, got)
		}
	}
}

// Where etcd chooses the ids, an answer does not tell which of two watches is meant, so one is asked for at a time.
func TestAnEtcdThatChoosesIDsIsAskedForOneWatchAtATime(t *testing.T) {
	w, etcd := play(t)
	x := w.all(t, "/a/", "/b/", "/c/")
	s := of(t, etcd.streams)
	by := map[string]*watch{"/a/": x[0], "/b/": x[1], "/c/": x[2]}
	var order []*watch
	for id := range int64(3) {
		order = append(order, by[string(s.create(t).Key)])
		select {
		case req := <-s.sent:
			t.Fatalf("%v was sent before the answer about the watch before", req)
		default:
		}
		s.answer(t, madeAs(id, 5))
	}
	mustOpen(t, x...)
	for id, x := range order {
		s.answer(t, eventAs(int64(id), int64(10+id)))
		if got := x.seen(t); got != int64(10+id) {
			t.Errorf("watch %d heard of revision %d, want %d", id, got, 10+id)
		}
	}

	// A watch that is closed before its answer is cancelled by the id that the answer tells, and delays nobody.
	late := w.all(t, "/late/", "/next/")
	if key := string(s.create(t).Key); key != "/late/" {
		t.Fatalf("got a request for %s, want /late/", key)
	}
	late[0].close()
	s.answer(t, madeAs(3, 5))
	cancelled, next := false, false
	for range 2 {
		req := of(t, s.sent)
		cancelled = cancelled || req.GetCancelRequest().GetWatchId() == 3
		next = next || string(req.GetCreateRequest().GetKey()) == "/next/"
	}
	if !cancelled || !next {
		t.Errorf("cancelled %t, next %t, want both", cancelled, next)
	}
}

// After a lost stream each watch goes on from where it was.
func TestWatchesGoOnAfterALostStream(t *testing.T) {
	w, etcd := play(t)
	a, s, first := w.begun(t, etcd, "/a/")
	x := append([]*watch{a}, w.all(t, "/b/", "/c/")...)
	second, third := s.create(t).WatchId, s.create(t).WatchId
	s.answer(t, madeAs(second, 7))
	mustOpen(t, x[1])
	s.answer(t, eventAs(first, 9))
	s.answer(t, status.Error(codes.Unavailable, "the way is cut"))

	s = of(t, etcd.streams)
	want := map[int64]int64{first: 10, second: 7, third: 0}
	req := s.create(t)
	got := map[int64]int64{req.WatchId: req.StartRevision}
	s.answer(t, madeAs(req.WatchId, 30))
	for range 2 {
		req := s.create(t)
		got[req.WatchId] = req.StartRevision
		s.answer(t, madeAs(req.WatchId, 30))
	}
	for id, from := range want {
		if got[id] != from {
			t.Errorf("watch %d goes on from %d, want from %d", id-firstID, got[id], from)
		}
	}
	mustOpen(t, x...)
	if got := x[0].seen(t); got != 9 {
		t.Errorf("got revision %d, want the 9 that came before the cut", got)
	}
	s.answer(t, eventAs(first, 12))
	if got := x[0].seen(t); got != 12 {
		t.Errorf("got revision %d, want 12", got)
	}
}

// What etcd ends is one watch; what it refuses on the whole stream are all of them.
func TestWatchesEndWithEtcdsReason(t *testing.T) {
	w, etcd := play(t)
	a, s, first := w.begun(t, etcd, "/a/")
	x := append([]*watch{a}, w.all(t, "/b/", "/c/")...)
	second := s.create(t).WatchId
	third := s.create(t).WatchId
	s.answer(t, madeAs(second, 5))
	s.answer(t, &pb.WatchResponse{WatchId: second, Canceled: true, CompactRevision: 4})
	if _, err := x[1].recv(due(t), nil); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("got %v, want that it is compacted", err)
	}
	s.answer(t, &pb.WatchResponse{WatchId: third, Created: true, Canceled: true, CancelReason: "no room"})
	if err := x[2].wait(due(t)); err == nil {
		t.Error("a watch that was refused is open")
	}
	s.answer(t, eventAs(first, 8))
	if got := x[0].seen(t); got != 8 {
		t.Errorf("got revision %d, want 8: nothing was wrong with the first watch", got)
	}
	s.answer(t, status.Error(codes.PermissionDenied, "etcdserver: permission denied"))
	if _, err := x[0].recv(due(t), nil); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("got %v, want that permission is denied", err)
	}

	// etcd does not say which of several watches it does not make.
	a, s, _ = w.begun(t, etcd, "/a/")
	x = append([]*watch{a}, w.all(t, "/b/", "/c/")...)
	s.create(t)
	s.create(t)
	s.answer(t, &pb.WatchResponse{WatchId: everyWatch, Created: true, Canceled: true, CancelReason: "no room"})
	for i := range x {
		if _, err := x[i].recv(due(t), nil); status.Convert(err).Message() != "no room" {
			t.Errorf("watch %d: got %v, want etcd's reason", i, err)
		}
	}
}

// A watcher without a watch has no stream, and opens one again for the next watch.
func TestAStreamWithoutWatchesEnds(t *testing.T) {
	w, etcd := play(t)
	x, s, _ := w.begun(t, etcd, "/a/")
	x.close()
	x.close()
	of(t, s.ctx.Done())
	x, _, _ = w.begun(t, etcd, "/b/")
	w.Close()
	if _, err := x.recv(due(t), nil); !errors.Is(err, errClosed) {
		t.Errorf("got %v, want that the watcher is closed", err)
	}
	if _, err := w.ask("/c/", 0); !errors.Is(err, errClosed) {
		t.Errorf("got %v, want that the watcher is closed", err)
	}
}

// What is heard about a range as a whole shows that the stream works, though no part hears of it.
func TestAStreamOnWhichNoPartHearsAnythingIsNotSilent(t *testing.T) {
	w, etcd := play(t)
	var heard atomic.Int64
	w.hears = func(*pb.ResponseHeader) { heard.Add(1) }
	x, err := w.askPart(&part{of: &Parts{whole: &whole{prefix: "/a/"}}, reader: reader{prefix: "/a/1/"}})
	if err != nil {
		t.Fatal(err)
	}
	s := of(t, etcd.streams)
	s.create(t)
	s.answer(t, madeAs(7, 5)) // etcd chooses ids, and tells of the progress of each watch
	mustOpen(t, x)
	s.answer(t, &pb.WatchResponse{Header: &pb.ResponseHeader{Revision: 6}, WatchId: 7})
	foreign := eventAs(7, 7)
	foreign.Events[0].Kv.Key = []byte("/a/2/k")
	s.answer(t, foreign)
	s.answer(t, madeAs(8, 7)) // by now the others were read
	if n := heard.Load(); n != 2 {
		t.Errorf("something was heard %d times, want 2", n)
	}
	if got := x.reached(); got != 8 {
		t.Errorf("the part has heard of all before revision %d, want 8", got)
	}
	x.close()
}
