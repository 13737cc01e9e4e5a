package follow

import (
	"context"
	"fmt"
	"hash/fnv"
	"sync"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// sharedLanes is how many streams carry the prefixes of Follow.
//
// A stream that hangs is replaced, and its watches are made anew; the more streams, the fewer those are. And where etcd
// or a proxy chooses the ids of watches, a stream opens one watch after the other (see session), also when all of them
// resume after a lost connection. With 1,024 prefixes on one stream that would take 10 s if a round trip takes 10 ms.
// Each lane costs a stream at both ends.
const sharedLanes = 16

// lane is one stream of watches.
type lane struct {
	users atomic.Int64 // how many Follows use it
	heard atomic.Int64 // the trunk's period in which something was last heard on it

	open    func() *watcher
	mu      sync.Mutex
	watcher *watcher // opens the stream at the first watch
}

// newLane makes a lane of a trunk. Its stream is opened at the first watch.
func (t *trunk) newLane() *lane {
	l := &lane{}
	l.open = func() *watcher {
		return newWatcher(t.client, func(header *pb.ResponseHeader) {
			l.heard.Store(t.period.Load())
			_ = t.Observe(header) // what it finds is told by OnRewound
		})
	}
	l.watcher = l.open()
	return l
}

// shared returns the lane of a prefix.
func (t *trunk) shared(prefix string) *lane {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(prefix)) // never fails
	return t.lanes[1+hash.Sum32()%sharedLanes]
}

func (l *lane) current() *watcher {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.watcher
}

// replace gives the lane a new stream.
func (l *lane) replace() {
	l.mu.Lock()
	old := l.watcher
	l.watcher = l.open()
	l.mu.Unlock()
	old.Close() // its watches end, and Follow opens them again
}

// askAll begins a period: it asks every lane in use for progress, and replaces the lanes that have been silent for too
// long.
func (t *trunk) askAll(ctx context.Context) {
	period := t.period.Add(1)
	var asking sync.WaitGroup
	defer asking.Wait()
	for _, l := range t.lanes {
		switch {
		case l.users.Load() == 0:
			l.heard.Store(period) // there was nothing to hear
		case period-l.heard.Load() > 3:
			l.heard.Store(period)
			silent := fmt.Errorf("nothing was heard on a watch stream for %v", 4*t.progress)
			for _, h := range t.all() {
				h.report(ctx, "", silent)
			}
			asking.Go(l.replace)
		default:
			l.current().requestProgress() // the periods without an answer are counted
		}
	}
}
