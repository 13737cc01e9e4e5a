package follow

import (
	"context"
	"fmt"
	"hash/fnv"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/mutant"
	"github.com/distributed-resource-manager/drm/internal/wire"
)

// sharedLanes is how many streams the prefixes of Follow are spread over.
//
// etcd's client makes the watches of a stream one by one, each when the one before was answered, also when all of them
// are to be resumed after a lost connection. So what n prefixes of one stream cost is n round trips in a row: nothing on
// loopback, but with 1,024 prefixes 10 s where a round trip takes 10 ms, and 10 min where it takes 600 ms, in which the last
// of them hears nothing. More lanes divide that, and cost a stream each at both ends.
const sharedLanes = 16

// lane is one stream of watches.
type lane struct {
	users atomic.Int64 // Follows
	heard atomic.Int64 // the hub's period in which something was last heard

	mu      sync.Mutex
	watcher clientv3.Watcher // it opens the stream at the first watch
	refused int              // how many streams in a row were made anew because etcd refused watches on the one before
	made    time.Time        // when the last of them was
}

// shared is the lane of a prefix.
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

// replace makes a new stream of the lane.
func (l *lane) replace(client *clientv3.Client) {
	l.mu.Lock()
	old := l.watcher
	l.watcher = wire.NewWatcher(client)
	l.mu.Unlock()
	_ = old.Close() // its watches end, and Follow makes them anew
}

// maxReplacePause is the longest pause between two streams of a lane on which etcd refuses watches.
const maxReplacePause = 15 * time.Second

// replaceRefused makes a new stream of the lane in place of one on which etcd refused a watch for its token: a stream keeps the
// one that it was opened with, even when that is not good any more. It does so once for each stream, and
// with a pause that grows for as long as that does not help.
func (l *lane) replaceRefused(client *clientv3.Client, refused clientv3.Watcher) {
	l.mu.Lock()
	lived := time.Since(l.made)
	if wait := backoff(l.refused, maxReplacePause); lived > 4*wait {
		l.refused = 0
	} else if lived < wait {
		l.mu.Unlock()
		return
	}
	if l.watcher != refused {
		l.mu.Unlock()
		return
	}
	l.refused++
	l.made = time.Now()
	l.watcher = wire.NewWatcher(client)
	l.mu.Unlock()
	_ = refused.Close() // its watches end, and Follow makes them anew
}

// askAll begins a period: it asks every lane in use for progress, and replaces those that have been silent for too long.
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
		case period-l.heard.Load() > 3 && !mutant.Is(mutant.TrustSilence):
			l.heard.Store(period)
			h.report(ctx, "", fmt.Errorf("nothing was heard for %v", 4*h.opts.Progress))
			asking.Go(func() { l.replace(h.client) })
		default:
			asking.Go(func() {
				_ = l.current().RequestProgress(ctx) // no answer is what the periods are counted for
			})
		}
	}
}
