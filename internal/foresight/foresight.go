package foresight

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/object"
	"github.com/distributed-resource-manager/drm/internal/order"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/internal/placement"
	"github.com/distributed-resource-manager/drm/internal/txn"
	"github.com/distributed-resource-manager/drm/membership"
)

// Input is what a Run starts from: an app at one revision. No field has a default.
type Input struct {
	Layout   keys.Layout
	Shards   int
	Created  int64              // the create revision of the app's config key
	Revision int64              // at which the keys were read
	Group    []*mvccpb.KeyValue // all keys below group/
	Loads    []*mvccpb.KeyValue // all keys below loads/
	Counts   []int              // by shard: how many resources it has; they count where no member says what it weighs
	Rules    placement.Rules    // of whoever coordinates
	Wall     time.Time
}

// Outcome is what a group settles at.
type Outcome struct {
	Before, After *membership.View
	// Group, Loads and Revision are the keys of the settled group, as those of an Input.
	Group, Loads []*mvccpb.KeyValue
	Revision     int64
	Load         []int64       // by shard: what it weighs, in thousandths
	Rounds       int           // how often the coordinator has moved shards
	Took         time.Duration // from the changes to the last move of a shard
	// Paced says that not all of what drained members have, or of what has to move for balance, could move at once. In
	// which order the members are done with it is not known beforehand, and what moves later depends on that.
	Paced bool
}

// errRestless is the error of a group that does not come to rest.
var errRestless = errors.New("the group does not come to rest")

const (
	// patience bounds each request to the store, which takes no time.
	patience = time.Minute
	// settled is for how long nothing has happened to the group before the changes.
	settled = time.Hour
	// handles is how long a member takes to handle what it owns, and to say so.
	handles = 500 * time.Millisecond
	// calm is for how long nothing has happened when all is over: a deployment that does not go on counts as one that
	// has stopped, and what has been moved may be moved again.
	calm = 20 * time.Minute
	// mostIdle is how many moments at which nothing is to be done are looked at one by one.
	mostIdle = 6
	// mostSteps is how many steps a run may take: many times what the largest group needs.
	mostSteps = 200_000
)

// world is one run.
type world struct {
	in     Input
	store  *store
	client *clientv3.Client
	desk   *order.Desk
	group  membership.Group

	now   time.Duration
	view  *membership.View
	load  []int64
	said  map[string]string // by member: what it said last, but for the revision
	loads map[string]saying // by member: what etcd has

	term      int64 // the create revision of the coordinator's key; 0: nobody coordinates
	publisher *placement.Publisher
	seen      int64 // the revision of the view that the publisher has seen last

	moved  time.Duration // when a shard has last moved
	evened time.Duration // when one has last moved for balance; 0: none has
	rounds int
	paced  bool
}

// saying is what a member says of its shards.
type saying struct {
	loads    claims.Loads
	revision int64
}

// Run makes changes happen to a group, all at one moment, and returns what the group settles at. Its errors are those
// of the orders, membership.ErrTaken for a member that joins and is there, and picture.ErrNotFound for one that is not.
func Run(ctx context.Context, in Input, changes ...Change) (*Outcome, error) {
	w, err := newWorld(ctx, in)
	if err != nil {
		return nil, err
	}
	before := w.view
	for _, c := range changes {
		if err := w.apply(ctx, c); err != nil {
			return nil, fmt.Errorf("%s: %w", c, err)
		}
	}
	w.look()
	if err := w.settle(ctx); err != nil {
		return nil, err
	}
	return &Outcome{
		Before: before, After: w.view,
		Group: w.store.below(in.Layout.Group()), Loads: w.store.below(in.Layout.Loads()), Revision: w.store.revision,
		Load: w.load, Rounds: w.rounds, Took: max(0, w.moved-settled),
		Paced: w.paced,
	}, nil
}

func newWorld(ctx context.Context, in Input) (*world, error) {
	config := &mvccpb.KeyValue{
		Key: []byte(in.Layout.Config()), Value: []byte("{}"), CreateRevision: in.Created, ModRevision: in.Created,
	}
	all := append([]*mvccpb.KeyValue{config}, in.Loads...)
	w := &world{
		in: in, store: newStore(append(all, in.Group...), in.Revision, in.Layout.Group()), said: map[string]string{},
		loads: map[string]saying{},
		group: membership.Group{Root: in.Layout.Root(), Shards: in.Shards, Config: in.Created},
	}
	w.client = w.store.client()
	w.desk = &order.Desk{
		Reader: &picture.Reader{
			Client: w.client, Layout: in.Layout, Shards: in.Shards, Timeout: patience,
		},
		Created: in.Created, Wall: w.wall,
	}
	w.look()
	w.neverEnd()
	w.listen()
	w.weigh()
	if err := w.coordinate(ctx); err != nil {
		return nil, err
	}
	w.now = settled
	return w, nil
}

// look takes another view.
func (w *world) look() {
	before := w.view
	if before != nil && before.Revision == w.store.changed {
		return
	}
	w.view = w.group.View(w.store.below(w.in.Layout.Group()), w.store.changed)
	if before != nil && !slices.Equal(before.Owners(), w.view.Owners()) {
		if w.rounds == 0 || w.moved != w.now {
			w.rounds++
		}
		w.moved = w.now
	}
}

func (w *world) wall() time.Time { return w.in.Wall.Add(max(0, w.now-settled)) }

// neverEnd makes the orders stand that would end by themselves some time.
func (w *world) neverEnd() {
	for _, orders := range []struct {
		all map[string]membership.Restriction
		key func(member string) string
	}{{w.view.Drains, w.in.Layout.Drain}, {w.view.Cordons, w.in.Layout.Cordon}} {
		for id, r := range orders.all {
			if r.Until.IsZero() {
				continue
			}
			key := orders.key(id)
			kv := w.store.kvs[key]
			r.Until = time.Time{}
			orders.all[id] = r // the view is not shared yet
			w.store.kvs[key] = &mvccpb.KeyValue{
				Key: kv.Key, Value: []byte(r.Encode()), CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision,
			}
		}
	}
}

// listen reads what the members say of their shards.
func (w *world) listen() {
	for _, kv := range w.in.Loads {
		key := w.in.Layout.Parse(string(kv.Key))
		loads, err := claims.DecodeLoads(kv.Value, w.in.Shards)
		if key.Kind != keys.Load || err != nil {
			continue // the coordinator ignores it, too
		}
		w.loads[key.ID] = saying{loads, kv.ModRevision}
		loads.Seen = 0
		w.said[key.ID] = string(loads.Encode())
	}
}

// weigh finds what each shard weighs: what its owner says, otherwise what another member has said last, otherwise what
// is in it.
func (w *world) weigh() {
	w.load = make([]int64, w.in.Shards)
	last := make([]int64, w.in.Shards)
	for id, s := range w.loads {
		for n, load := range s.loads.Shards {
			revision := s.revision
			if w.view.Owner(n) == id {
				revision = 1 << 62
			}
			if revision > last[n] {
				w.load[n], last[n] = load, revision
			}
		}
	}
	for n, count := range w.in.Counts {
		if last[n] == 0 {
			w.load[n] = int64(count) * object.OneWeight
		}
	}
}

// newPublisher makes the part of a coordinator that places shards.
func (w *world) newPublisher(id string, number int64) *placement.Publisher {
	return placement.NewPublisher(placement.Options{
		Rules: w.in.Rules, Member: id, Shards: w.in.Shards, Layout: w.in.Layout, KV: w.client, Timeout: patience,
		Limits: new(txn.Limits), Now: func() time.Duration { return w.now }, Wall: w.wall, Log: zap.NewNop(),
	}, number)
}

// see shows the last view to the coordinator.
func (w *world) see() {
	if w.publisher != nil && w.view.Revision > w.seen {
		w.publisher.See(w.view)
		w.seen = w.view.Revision
	}
}

// settle lets time pass until nothing happens any more.
func (w *world) settle(ctx context.Context) error {
	over, idle := false, 0
	for range mostSteps {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if wrote, err := w.act(ctx); wrote || err != nil {
			if err != nil {
				return err
			}
			over, idle = false, 0
			continue
		}
		wrote, next, err := w.turn(ctx)
		if err != nil {
			return err
		}
		if wrote {
			over, idle = false, 0
			continue
		}
		w.wait()
		wrote, err = w.report(ctx)
		if err != nil {
			return err
		}
		w.look()
		switch {
		case wrote:
			over, idle = false, 0
		case over, next == 0:
			return nil
		case idle < mostIdle:
			idle++
			w.now = max(w.now, next)
		default: // whatever waits for time to pass
			over = true
			w.now = max(w.now, next) + calm + w.in.Rules.Again + w.in.Rules.Quiet
		}
	}
	return errRestless
}

// turn lets the coordinator publish what is due. next is when it has to look again; 0: it need not, if nothing happens.
func (w *world) turn(ctx context.Context) (wrote bool, next time.Duration, err error) {
	if w.publisher == nil {
		return false, 0, nil
	}
	w.see()
	before := w.view
	next, err = w.publisher.Turn(ctx)
	if err != nil {
		return false, 0, fmt.Errorf("plan the placement: %w", err)
	}
	w.look()
	if w.view == before {
		return false, next, nil
	}
	w.note(before)
	return true, next, nil
}

// note notes that a turn of the coordinator has moved shards for balance, if it has. What comes soon after others could
// not move at once with them; what comes much later is a correction that had to wait, since no shard moves twice for
// balance in a short time.
func (w *world) note(before *membership.View) {
	for n := range w.in.Shards {
		if before.Owner(n) != w.view.Owner(n) && w.view.Exceptions[n].Why == membership.WhyBound {
			w.paced = w.paced || w.evened != 0 && w.now > w.evened && w.now-w.evened < time.Minute
			w.evened = w.now
			return
		}
	}
}

// wait lets the time pass that members take to handle what they own.
func (w *world) wait() {
	w.now += handles
	for id := range w.view.Members {
		w.paced = w.paced || w.view.Kept(id) > 0
	}
}
