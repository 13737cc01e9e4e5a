package placement

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
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
	o       Options
	number  int64 // the create revision of the coordinator's key
	planner *Planner

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
		o: o, number: number, planner: NewPlanner(o.Rules, o.Member, o.Shards, o.Now()),
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
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	pauses := pace.Retry()
	var written int64 // no older view shows what was published
	for seen := false; ; {
		select {
		case <-ctx.Done():
			return
		case v := <-t.views:
			t.planner.See(v, t.o.Now())
			seen = true
		case <-t.said:
		case <-timer.C:
		case <-t.haste:
			t.planner.Hasten()
			if err := t.obeyed(ctx); err != nil {
				t.failed(ctx, err)
			}
		case f := <-t.fresh:
			select {
			case v := <-t.views:
				t.planner.See(v, t.o.Now())
				seen = true
			default:
			}
			if seen {
				plan := t.planner.Fresh(f.load, t.o.Now(), t.o.Wall())
				if _, err := t.publish(ctx, plan); err != nil {
					t.failed(ctx, err)
				}
			}
			close(f.done)
			continue
		}
		t.listen()
		if !seen || t.planner.view.Revision < written {
			continue
		}
		plan := t.planner.Plan(t.o.Now(), t.o.Wall())
		if plan.Next > 0 {
			timer.Reset(max(plan.Next-t.o.Now(), 10*time.Millisecond))
		}
		if plan.IsEmpty() {
			continue
		}
		revision, err := t.publish(ctx, plan)
		switch {
		case err == nil:
			written = revision
			t.planner.Done(plan, revision, t.o.Now())
			pauses.Reset()
		case errors.Is(err, errDeposed):
			return
		default:
			t.failed(ctx, err)
			timer.Reset(pauses.Next())
		}
	}
}

// listen tells the planner what the members have said.
func (t *Term) listen() {
	t.mu.Lock()
	news := t.news
	t.news = map[string]saying{}
	t.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(news)) {
		t.planner.Take(id, news[id].loads, news[id].revision)
	}
}

func (t *Term) failed(ctx context.Context, err error) {
	if ctx.Err() == nil {
		t.o.Failures.Add(failures.Failure{
			Message: "cannot publish the placement", Level: zap.WarnLevel, Error: err.Error(),
		})
	}
}

var (
	// errDeposed says that this member is the coordinator no longer.
	errDeposed = errors.New("another member coordinates")
	// errOutdated says that somebody else has written one of the keys; the next view shows it.
	errOutdated = errors.New("the placement was changed meanwhile")
)

// publish writes a plan, and returns the revision of the last write. What says that all is prepared comes last.
func (t *Term) publish(ctx context.Context, plan *Plan) (revision int64, err error) {
	var all []write
	for _, e := range plan.Exceptions {
		key := t.o.Layout.Exception(e.Shard)
		all = append(all, write{
			clientv3.Compare(clientv3.ModRevision(key), "=", e.ModRevision), clientv3.OpPut(key, e.Encode()),
		})
	}
	for _, n := range plan.Drop {
		key := t.o.Layout.Exception(n)
		known := t.planner.view.Exceptions[n].ModRevision
		all = append(all, write{clientv3.Compare(clientv3.ModRevision(key), "=", known), clientv3.OpDelete(key)})
	}
	for _, id := range slices.Sorted(maps.Keys(plan.Keeps)) {
		key := t.o.Layout.Drain(id)
		order := t.planner.view.Drains[id]
		order.Keeps = plan.Keeps[id]
		all = append(all, write{
			clientv3.Compare(clientv3.ModRevision(key), "=", order.ModRevision),
			clientv3.OpPut(key, order.Encode(), clientv3.WithIgnoreLease()),
		})
	}
	for _, id := range slices.Sorted(maps.Keys(plan.Prepared)) {
		m := t.planner.view.Members[id]
		all = append(all, write{
			clientv3.Compare(clientv3.CreateRevision(t.o.Layout.Member(id)), "=", m.CreateRevision),
			clientv3.OpPut(t.o.Layout.Prepared(id), strconv.FormatInt(plan.Prepared[id], 10),
				clientv3.WithLease(clientv3.LeaseID(m.Lease))),
		})
	}
	for _, id := range plan.Undrain {
		all = append(all, t.end(t.o.Layout.Drain(id), t.planner.view.Drains[id]))
	}
	for _, id := range plan.Uncordon {
		all = append(all, t.end(t.o.Layout.Cordon(id), t.planner.view.Cordons[id]))
	}
	for len(all) > 0 {
		n := min(len(all), max(1, t.o.Limits.Ops()-1))
		if revision, err = t.commit(ctx, all[:n]); err != nil {
			return revision, err
		}
		all = all[n:]
	}
	t.tell(plan)
	return revision, nil
}

// end takes an order back, unless somebody has given it anew.
func (t *Term) end(key string, order membership.Restriction) write {
	return write{clientv3.Compare(clientv3.ModRevision(key), "=", order.ModRevision), clientv3.OpDelete(key)}
}

// write is one conditional write.
type write struct {
	unless clientv3.Cmp
	op     clientv3.Op
}

func (t *Term) commit(ctx context.Context, all []write) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, t.o.Timeout)
	defer cancel()
	office := t.o.Layout.Coordinator()
	ifs := []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(office), "=", t.number)}
	ops := make([]clientv3.Op, 0, len(all))
	for _, w := range all {
		ifs, ops = append(ifs, w.unless), append(ops, w.op)
	}
	resp, err := t.o.KV.Txn(ctx).If(ifs...).Then(ops...).Else(clientv3.OpGet(office, clientv3.WithKeysOnly())).Commit()
	switch {
	case err != nil:
		refused := &pb.TxnRequest{Success: make([]*pb.RequestOp, len(ifs))}
		return 0, t.o.Limits.TooMany(err, refused)
	case resp.Succeeded:
		return resp.Header.Revision, nil
	}
	if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) == 0 || kvs[0].CreateRevision != t.number {
		return 0, errDeposed
	}
	return 0, errOutdated
}

// tell logs what was published.
func (t *Term) tell(plan *Plan) {
	why := map[membership.Why]int{}
	for _, e := range plan.Exceptions {
		why[e.Why]++
	}
	if len(plan.Undrain)+len(plan.Uncordon) > 0 {
		t.o.Log.Info("ended orders whose time is over",
			zap.Strings("drained", plan.Undrain), zap.Strings("cordoned", plan.Uncordon))
	}
	if len(why)+len(plan.Keeps)+len(plan.Drop) == 0 {
		return
	}
	load := int64(0)
	for _, l := range plan.load {
		load += l
	}
	t.o.Log.Info("placed shards", zap.Int("shards", len(plan.Exceptions)), zap.Any("why", why),
		zap.Int64("moving", (load+500)/1000), zap.Int("dropped", len(plan.Drop)),
		zap.Strings("drained", slices.Sorted(maps.Keys(plan.Keeps))))
}
