package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// watchStream is a stream of watches, as etcd's protocol has it: the doctor looks at what the client's watcher hides.
type watchStream struct{ pb.Watch_WatchClient }

// watchStream opens a stream; it lives as long as ctx.
func (r *run) watchStream(ctx context.Context) (watchStream, error) {
	s, err := pb.NewWatchClient(r.client.ActiveConnection()).Watch(clientv3.WithRequireLeader(ctx))
	return watchStream{s}, err
}

// create makes a watch of a prefix from a revision on, and returns etcd's answer.
func (s watchStream) create(prefix string, rev int64) (*pb.WatchResponse, error) {
	err := s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: []byte(prefix), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(prefix)), StartRevision: rev,
	}}})
	for err == nil {
		var resp *pb.WatchResponse
		if resp, err = s.Recv(); err == nil && resp.Canceled {
			err = errors.New(resp.CancelReason)
		} else if err == nil && resp.Created {
			return resp, nil
		}
	}
	return nil, err
}

// askProgress asks how far the watches of the stream are, and returns etcd's answer.
func (s watchStream) askProgress() (*pb.WatchResponse, error) {
	err := s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{
		ProgressRequest: &pb.WatchProgressRequest{},
	}})
	for err == nil {
		var resp *pb.WatchResponse
		if resp, err = s.Recv(); err == nil && len(resp.Events) == 0 && !resp.Created && !resp.Canceled {
			return resp, nil
		}
	}
	return nil, err
}

// quiet is a prefix below the root with nothing in it, so that no event disturbs a watch of it.
func (r *run) quiet() string { return r.cfg.root() + "\xff/doctor/" }

// checkWatch finds out whether watches are made, and whether etcd tells how far they are.
func checkWatch(ctx context.Context, r *run) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var stream watchStream
	var made *pb.WatchResponse
	f := r.check(ctx, watches, "", func(bounded context.Context) finding {
		began := time.Now()
		// The stream outlives the check, and ends with its timeout if it does not answer.
		streaming, end := context.WithCancel(ctx)
		stop := context.AfterFunc(bounded, end)
		var err error
		if stream, err = r.watchStream(streaming); err == nil {
			made, err = stream.create(r.quiet(), 0)
		}
		if !stop() && err == nil {
			err = bounded.Err()
		}
		if err != nil {
			end()
			return failure("see whether a proxy or a firewall in between ends long streams",
				"no watch could be made: %v", err)
		}
		return fine("a watch is made in %s", brief(time.Since(began)))
	})
	r.check(ctx, progress, "", func(bounded context.Context) finding {
		if f.result != OK {
			return skipped("%s", because(watches))
		}
		const mend = "name etcd's members in --endpoints, not a proxy, and run etcd 3.4.25, 3.5.8 or later"
		began := time.Now()
		type answer struct {
			resp *pb.WatchResponse
			err  error
		}
		answered := make(chan answer, 1)
		go func() {
			resp, err := stream.askProgress()
			answered <- answer{resp, err}
		}()
		select {
		case <-bounded.Done():
			return warning(mend, "etcd does not tell how far a watch is: no answer within %s", brief(time.Since(began)))
		case a := <-answered:
			if a.err != nil {
				return warning(mend, "etcd does not tell how far a watch is: %v", a.err)
			}
			if a.resp.Header.GetRevision() < made.Header.GetRevision() {
				return failure("see whether --endpoints are of one cluster, and whether etcd was restored",
					"a watch that was made at revision %d is said to be at %d", made.Header.GetRevision(),
					a.resp.Header.GetRevision())
			}
			return fine("etcd tells in %s that the watch is at revision %d", brief(time.Since(began)),
				a.resp.Header.GetRevision())
		}
	})
}

// sharesWatches says whether a second watch that is like the first one is answered by somebody who does not know the
// cluster: etcd's gRPC proxy does not forward it.
func (r *run) sharesWatches(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := r.watchStream(ctx)
	if err != nil {
		return false, err
	}
	first, err := stream.create(r.quiet(), 0)
	if err != nil {
		return false, err
	}
	for range 2 {
		next, err := stream.create(r.quiet(), first.Header.GetRevision()+1)
		if err != nil {
			return false, fmt.Errorf("a second watch: %w", err)
		}
		if next.Header.GetClusterId() == 0 {
			return true, nil
		}
	}
	return false, nil
}
