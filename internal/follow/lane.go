package follow

import (
	"context"
	"fmt"
	"hash/fnv"
	"sync"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// sharedLanes is how many streams carry the prefixes of Follow.
//
// etcd's client opens the watches of a stream one by one, each when the previous one was answered, also when all of
// them resume after a lost connection. So n prefixes of one stream cost n round trips in a row: nothing on loopback,
// but with 1,024 prefixes 10 s if a round trip takes 10 ms, and 10 min if it takes 600 ms, during which the last prefix
// hears nothing. More lanes divide that time, and each costs a stream at both ends.
const sharedLanes = 16

// lane is one stream of watches.
type lane struct {
	users atomic.Int64 // how many Follows use it
	heard atomic.Int64 // the hub's period in which something was last heard on it

	mu      sync.Mutex
	watcher clientv3.Watcher // opens the stream at the first watch
}

// shared returns the lane of a prefix.
func (h *Hub) shared(prefix string) *lane {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(prefix)) // never fails
	return h.lanes[1+hash.Sum32()%sharedLanes]
}

func (l *lane) current() clientv3.Watcher {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.watcher
}

// replace gives the lane a new stream.
func (l *lane) replace(client *clientv3.Client) {
	l.mu.Lock()
	old := l.watcher
	l.watcher = NewWatcher(client)
	l.mu.Unlock()
	_ = old.Close() // its watches end, and Follow opens them again
}

// askAll begins a period: it asks every lane in use for progress, and replaces the lanes that have been silent for too
// long.
func (h *Hub) askAll(ctx context.Context) {
	period := h.period.Add(1)
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), h.opts.Progress)
	defer cancel()
	var asking sync.WaitGroup
	defer asking.Wait()
	for _, l := range h.lanes {
		switch {
		case l.users.Load() == 0:
			l.heard.Store(period) // there was nothing to hear
		case period-l.heard.Load() > 3:
			l.heard.Store(period)
			h.report(ctx, "", fmt.Errorf("nothing was heard on a watch stream for %v", 4*h.opts.Progress))
			asking.Go(func() { l.replace(h.client) })
		default:
			asking.Go(func() {
				_ = l.current().RequestProgress(ctx) // the periods without an answer are counted
			})
		}
	}
}
