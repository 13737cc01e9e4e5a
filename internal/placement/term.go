package placement

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/failures"
	"github.com/distributed-resource-manager/drm/internal/follow"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/internal/txn"
	"github.com/distributed-resource-manager/drm/membership"
)

// Hub follows keys in etcd. *follow.Hub implements it.
type Hub interface {
	Follow(ctx context.Context, prefix string, sink follow.Sink)
}

// Options is what a Term needs. No field has a default.
type Options struct {
	Rules   Rules
	Member  string // the coordinator
	Shards  int
	Layout  keys.Layout
	KV      clientv3.KV
	Hub     Hub
	Timeout time.Duration // bounds each request
	Limits  *txn.Limits   // what etcd takes in a transaction

	Now  func() time.Duration // by a clock that goes on while the machine sleeps
	Wall func() time.Time

	Log      *zap.Logger
	Failures *failures.Log
}

// Term is one term of a coordinator, as far as it is about the placement. NewTerm makes it, Enter starts its goroutine,
// and Leave ends it. Any goroutine may call See between the two.
type Term struct {
	o         Options
	publisher *Publisher // run's goroutine owns it

	views  chan *membership.View // holds the last view
	said   chan struct{}         // holds a token when members have said something
	haste  chan struct{}         // holds a token when an operator orders that the load be balanced now
	fresh  chan fresh            // asks for a placement before the first resource is there
	cancel context.CancelFunc
	done   chan struct{}

	mu   sync.Mutex
	news map[string]saying // what members have said since the last look
}

// saying is what a member says.
type saying struct {
	loads    claims.Loads
	revision int64
}

// fresh is a request of Fresh.
type fresh struct {
	load []int64
	done chan struct{}
}

// NewTerm makes the term with that number, which is the create revision of the coordinator's key.
func NewTerm(o Options, number int64) *Term {
	return &Term{
		o: o, publisher: NewPublisher(o, number),
		views: make(chan *membership.View, 1), said: make(chan struct{}, 1),
		haste: make(chan struct{}, 1), fresh: make(chan fresh),
		done: make(chan struct{}), news: map[string]saying{},
	}
}

// Enter begins the term, which ends with Leave, or when ctx ends. It is called once.
func (t *Term) Enter(ctx context.Context) {
	ctx, t.cancel = context.WithCancel(ctx)
	go func() {
		defer close(t.done)
		var following sync.WaitGroup
		following.Go(func() { t.o.Hub.Follow(ctx, t.o.Layout.Loads(), t) })
		following.Go(func() { t.o.Hub.Follow(ctx, t.o.Layout.RebalanceOrder(), orders{t}) })
		t.run(ctx)
		following.Wait()
	}()
}

// Leave ends the term, and waits for its goroutine.
func (t *Term) Leave() {
	t.cancel()
	<-t.done
}

// See tells the term of a view. It does not wait.
func (t *Term) See(v *membership.View) {
	for {
		select {
		case t.views <- v:
			return
		case <-t.views: // an older one
		}
	}
}

// Fresh places the shards of an app in which nothing is handled yet, by what they are going to weigh. It returns when
// the placement is published, or after a moment without that, since the ring's answer is good enough to begin with.
func (t *Term) Fresh(ctx context.Context, load []int64) {
	ctx, cancel := context.WithTimeout(ctx, t.o.Timeout)
	defer cancel()
	f := fresh{load, make(chan struct{})}
	select {
	case t.fresh <- f:
	case <-ctx.Done():
		return
	case <-t.done:
		return
	}
	select {
	case <-f.done:
	case <-ctx.Done():
	case <-t.done:
	}
}

// Reset implements follow.Sink.
func (t *Term) Reset(kvs []*mvccpb.KeyValue, _ int64) {
	for _, kv := range kvs {
		t.hear(kv)
	}
	t.wake()
}

// Apply implements follow.Sink.
func (t *Term) Apply(events []*clientv3.Event, _ int64) {
	for _, ev := range events {
		if ev.Type != clientv3.EventTypeDelete { // what a member said holds until another one says something
			t.hear(ev.Kv)
		}
	}
	t.wake()
}

func (t *Term) hear(kv *mvccpb.KeyValue) {
	key := t.o.Layout.Parse(string(kv.Key))
	loads, err := claims.DecodeLoads(kv.Value, t.o.Shards)
	if err != nil || key.Kind != keys.Load {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.news[key.ID] = saying{loads, kv.ModRevision}
}

func (t *Term) wake() {
	select {
	case t.said <- struct{}{}:
	default:
	}
}

// run plans and publishes until ctx ends.
func (t *Term) run(ctx context.Context) {
	timer := pace.Stopped()
	defer timer.Stop()
	pauses := pace.Retry()
	for {
		select {
		case <-ctx.Done():
			return
		case v := <-t.views:
			t.publisher.See(v)
		case <-t.said:
		case <-timer.C:
		case <-t.haste:
			if err := t.publisher.Hasten(ctx); err != nil {
				t.failed(ctx, err)
			}
		case f := <-t.fresh:
			select {
			case v := <-t.views:
				t.publisher.See(v)
			default:
			}
			if err := t.publisher.Fresh(ctx, f.load); err != nil {
				t.failed(ctx, err)
			}
			close(f.done)
			continue
		}
		t.listen()
		next, err := t.publisher.Turn(ctx)
		if next > 0 {
			timer.Reset(max(next-t.o.Now(), 10*time.Millisecond))
		}
		switch {
		case err == nil:
			pauses.Reset()
		case errors.Is(err, ErrDeposed):
			return
		default:
			t.failed(ctx, err)
			timer.Reset(pauses.Next())
		}
	}
}

// listen tells the publisher what the members have said.
func (t *Term) listen() {
	t.mu.Lock()
	news := t.news
	t.news = map[string]saying{}
	t.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(news)) {
		t.publisher.Take(id, news[id].loads, news[id].revision)
	}
}

func (t *Term) failed(ctx context.Context, err error) {
	if ctx.Err() == nil {
		t.o.Failures.Add(failures.Failure{
			Message: "cannot publish the placement", Level: zap.WarnLevel, Error: err.Error(),
		})
	}
}
