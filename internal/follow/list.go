package follow

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/reach"
	"github.com/distributed-resource-manager/drm/internal/txn"
	"github.com/distributed-resource-manager/drm/internal/wire"
)

const (
	// mostTogether is how many lists share a request at most.
	mostTogether = 16
	// listsAtOnce is how many lists may be on their way at once, as long as answers come within gatherAtMost: so few
	// that the start of a member does not keep a near etcd from everything else.
	listsAtOnce = 64
	// listsAtMost is how many may be on their way where answers take longer, because etcd is far away: enough to read
	// what a member takes over within a few round trips.
	listsAtMost = 256
	// gatherAtMost is how long lists wait for others to share a request with, and for the answers to those before them.
	// It is longer than a near etcd takes to answer; and where a request hangs (an endpoint may be gone without a
	// word), the other lists do not wait for it.
	gatherAtMost = 20 * time.Millisecond
	// bytesTogether is about how many bytes of keys and values the answer to a shared request has at most.
	bytesTogether = 1 << 20
)

// List reads all keys below a prefix, in pages at one revision, which is not older than the call. The keys and values
// of a page share their memory, also with other lists: copy what is kept for longer than the others.
func (h *Hub) List(ctx context.Context, prefix string) ([]*mvccpb.KeyValue, int64, error) {
	page := &pb.RangeRequest{
		Key: []byte(prefix), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(prefix)), Limit: h.opts.PageSize,
	}
	resp, rev, err := h.firsts.read(ctx, h, page)
	kvs := resp.GetKvs()
	if err == nil && resp.More {
		select {
		case h.further <- struct{}{}:
			defer func() { <-h.further }()
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		}
	}
	for err == nil && resp.More && len(resp.Kvs) > 0 {
		page.Revision = rev
		page.Key = append(bytes.Clone(resp.Kvs[len(resp.Kvs)-1].Key), 0)
		if resp, err = h.page(ctx, page); err == nil {
			kvs = append(kvs, resp.Kvs...)
		}
	}
	if err != nil {
		return nil, 0, fmt.Errorf("list %s: %w", prefix, err)
	}
	return kvs, rev, nil
}

// page reads one page by itself.
func (h *Hub) page(ctx context.Context, page *pb.RangeRequest) (*pb.RangeResponse, error) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), h.opts.ListTimeout)
	defer cancel()
	return checked(h, func() (*pb.RangeResponse, error) {
		resp, err := clientv3.RetryKVClient(h.client).Range(ctx, page, wire.Lean...)
		return resp, reach.Explain(h.client, clientv3.ContextError(ctx, err),
			func() string { return reach.Key("read", string(page.Key)) })
	}, (*pb.RangeResponse).GetHeader)
}

// pages reads the pages of several lists in one transaction. Each answer is as if its page was read by itself, without
// a header.
func (h *Hub) pages(
	ctx context.Context, patience time.Duration, pages []*pb.RangeRequest,
) (answers []*pb.RangeResponse, rev int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req := &pb.TxnRequest{Success: make([]*pb.RequestOp, len(pages))}
	for i, page := range pages {
		req.Success[i] = &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: page}}
	}
	resp, err := h.Committer(txn.New(h.client)).Commit(ctx, req)
	if err != nil {
		return nil, 0, h.opts.Limits.TooMany(err, req)
	}
	answers = make([]*pb.RangeResponse, len(pages))
	for i := range answers {
		if i < len(resp.Responses) {
			answers[i] = resp.Responses[i].GetResponseRange()
		}
		if answers[i] == nil {
			return nil, 0, fmt.Errorf("etcd has answered %d of %d reads", i, len(pages))
		}
	}
	return answers, resp.Header.GetRevision(), nil
}

// firsts reads the first pages of lists. A member that takes over many shards lists them at about the same time, and a
// request for each of them would keep etcd and the member busier than what they contain. So only a few requests are on
// their way at a time, and what waits for them shares the next one. Where answers take longer than gatherAtMost, more
// requests are on their way.
type firsts struct {
	ctx     context.Context // ends the requests that lists share
	flights sync.WaitGroup

	mu      sync.Mutex
	flying  int // how many lists are on their way
	waiting []*first
	late    *time.Timer // fires when those that wait have gathered for long enough; nil: none has waited yet
	armed   bool        // late has been set and has not fired
	size    int         // how many bytes a first page has about, by the latest answers; 0: not known
}

// first is the first page of a list.
type first struct {
	hub    *Hub // that the list is for
	page   *pb.RangeRequest
	ctx    context.Context // of the list
	answer chan reading    // has room for one
}

// reading is what came of a first page.
type reading struct {
	resp *pb.RangeResponse
	rev  int64
	err  error
}

// tell tells what came of a first page. Only the first call counts.
func (one *first) tell(came reading) {
	select {
	case one.answer <- came:
	default:
	}
}

// read reads a first page, at a revision that is not older than the call.
func (f *firsts) read(ctx context.Context, h *Hub, page *pb.RangeRequest) (*pb.RangeResponse, int64, error) {
	one := &first{h, page, ctx, make(chan reading, 1)}
	f.mu.Lock()
	f.waiting = append(f.waiting, one)
	f.depart(false)
	f.mu.Unlock()
	select {
	case got := <-one.answer:
		return got.resp, got.rev, got.err
	case <-ctx.Done():
		return nil, 0, context.Cause(ctx)
	case <-f.ctx.Done():
		return nil, 0, context.Cause(f.ctx)
	}
}

// depart sends what waits: full requests as long as few lists are on their way, and one that is not full if there are
// no others. If what waits is late, it sends as much again, whatever is on its way. The caller holds f.mu.
func (f *firsts) depart(late bool) {
	most := listsAtOnce
	if late {
		most = min(f.flying+listsAtOnce, listsAtMost)
	}
	for len(f.waiting) > 0 && f.ctx.Err() == nil {
		n := min(mostTogether, f.waiting[0].hub.opts.Limits.Ops())
		if f.size > 0 {
			n = min(n, max(1, bytesTogether/f.size))
		}
		full := len(f.waiting) >= n
		n = min(n, len(f.waiting))
		if f.flying > 0 && (!full && !late || f.flying+n > most) {
			if f.flying+n <= listsAtMost { // otherwise the next answer makes room
				f.arm()
			}
			return
		}
		group := f.waiting[:n:n]
		f.waiting = f.waiting[n:]
		f.flying += n
		f.flights.Go(func() {
			f.measured(f.fly(group))
			f.mu.Lock()
			defer f.mu.Unlock()
			f.flying -= n
			f.depart(false)
		})
	}
}

// measured takes note of how many bytes the first pages of an answer had on average; 0: not known.
func (f *firsts) measured(size int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if size > 0 {
		f.size = (3*cmp.Or(f.size, size) + size) / 4
	}
}

// arm makes what waits depart after gatherAtMost. The caller holds f.mu.
func (f *firsts) arm() {
	if f.armed {
		return
	}
	f.armed = true
	if f.late != nil {
		f.late.Reset(gatherAtMost)
		return
	}
	f.late = time.AfterFunc(gatherAtMost, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.armed = false
		f.depart(true)
	})
}

// close ends all requests, and waits for them. The hub has ended f.ctx.
func (f *firsts) close() {
	f.mu.Lock()
	if f.late != nil {
		f.late.Stop()
	}
	f.mu.Unlock()
	f.flights.Wait()
}

// fly reads the first pages of a group of lists. It returns how many bytes each had on average; 0: not known.
func (f *firsts) fly(group []*first) (size int) {
	group = slices.DeleteFunc(group, func(one *first) bool { return one.ctx.Err() != nil })
	switch len(group) {
	case 0:
		return 0
	case 1:
		return f.alone(group[0])
	}
	pages := make([]*pb.RangeRequest, len(group))
	for i, one := range group {
		pages[i] = one.page
	}
	patience := patienceOf(group)
	for _, one := range group {
		if own := one.hub.opts.ListTimeout; own < patience { // the others may wait for longer
			defer time.AfterFunc(own, func() { one.tell(reading{err: context.DeadlineExceeded}) }).Stop()
		}
	}
	answers, rev, err := group[0].hub.pages(f.ctx, patience, pages)
	switch {
	case err == nil:
		for i, one := range group {
			size += sizeOf(answers[i])
			one.tell(reading{resp: answers[i], rev: rev})
		}
		return size / len(group)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, ErrRewound):
		for _, one := range group {
			one.tell(reading{err: err})
		}
	default: // what etcd refuses may be the size of the request, or one list; and the client repeats only single reads
		for _, one := range group {
			f.flights.Go(func() { f.measured(f.alone(one)) })
		}
	}
	return 0
}

// alone reads the first page of one list, and returns how many bytes it had; 0: not known.
func (f *firsts) alone(one *first) (size int) {
	ctx, cancel := context.WithCancel(one.ctx)
	defer cancel()
	defer context.AfterFunc(f.ctx, cancel)()
	resp, err := one.hub.page(ctx, one.page)
	one.tell(reading{resp, resp.GetHeader().GetRevision(), err})
	if err != nil {
		return 0
	}
	return sizeOf(resp)
}

// patienceOf returns how long a request may take that lists share: as long as the most patient one waits for a page.
func patienceOf(group []*first) (longest time.Duration) {
	for _, one := range group {
		longest = max(longest, one.hub.opts.ListTimeout)
	}
	return longest
}

// sizeOf returns how many bytes the keys and values of a page have. A page without any counts as one byte.
func sizeOf(page *pb.RangeResponse) int {
	size := 1
	for _, kv := range page.GetKvs() {
		size += len(kv.Key) + len(kv.Value)
	}
	return size
}
