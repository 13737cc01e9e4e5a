package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

const (
	manyMembers   = 3  // of each app
	manyResources = 10 // of each app
	// manyWatched is how long the members are watched: as long as it takes until each has made sure once that no watch
	// has missed anything, so that this counts as it does for users.
	manyWatched = 5 * time.Minute
	manyReach   = 2 // percent of a processor
)

// many measures what many small apps in one process cost while nothing happens: first with a client of its own for each
// member, and then with one connection for all. At last it measures what the keepalives of their two leases each cost
// alone.
func many(ctx context.Context, l *lab) (map[string]float64, bool, error) {
	apps := max(2, int(200*l.opts.Scale))
	f := map[string]float64{"apps": float64(apps), "members": float64(apps * manyMembers)}
	for _, phase := range []struct {
		name   string
		shared bool
	}{{"before", false}, {"after", true}} {
		if err := l.manyPhase(ctx, f, phase.name, apps, phase.shared); err != nil {
			return nil, false, fmt.Errorf("%s: %w", phase.name, err)
		}
	}
	if err := l.bareKeepalives(ctx, f, 2*apps*manyMembers); err != nil {
		return nil, false, fmt.Errorf("raw: %w", err)
	}
	return f, f["after_cpu_percent"] <= manyReach, nil
}

// handles counts what is handled.
type handles struct{ n atomic.Int64 }

// Handle implements drm.Handler.
func (h *handles) Handle(context.Context, drm.Claim) error { h.n.Add(1); return nil }

// Terminate implements drm.Handler.
func (h *handles) Terminate(context.Context, drm.Claim) error { h.n.Add(-1); return nil }

// HandleFailed implements drm.Handler. It is never called, since Handle does not fail.
func (h *handles) HandleFailed(context.Context, drm.Claim, error) {}

// TerminateFailed implements drm.Handler. It is never called, since Terminate does not fail.
func (h *handles) TerminateFailed(context.Context, drm.Claim, error) {}

// manyPhase starts the members, rests, and stops them.
func (l *lab) manyPhase(ctx context.Context, f map[string]float64, name string, apps int, shared bool) (err error) {
	how := "a client of its own for each"
	if shared {
		how = "one connection"
	}
	l.say("%s: %d apps with %d members each, and %s", name, apps, manyMembers, how)
	before := inUse()
	group, err := l.startMany(ctx, name, apps, shared)
	defer func() { err = errors.Join(err, group.stop(ctx)) }()
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); group.handler.n.Load() != int64(apps*manyResources); {
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d resources are handled", group.handler.n.Load(), apps*manyResources)
		}
	}
	// Until then the coordinators have moved what was uneven.
	quiet, watched := 150*time.Second, manyWatched
	if l.opts.Scale < 1 {
		quiet = 0
		watched = max(cmp.Or(l.opts.LeaseTTL, drm.DefaultLeaseTTL)/2, time.Duration(float64(watched)*l.opts.Scale))
	}
	l.say("they handle %d resources; now nothing happens for %v", apps*manyResources, quiet+watched)
	if err := pause(ctx, quiet); err != nil {
		return err
	}
	etcdBefore := l.etcdCPU()
	cpu, took, err := l.rest(ctx, watched)
	if err != nil {
		return err
	}
	l.noteCPU(f, name, cpu, l.etcdCPU()-etcdBefore, took)
	f[name+"_memory_mb"] = float64(max(0, inUse()-before)) / (1 << 20) // other benches may have freed more
	l.rates(f, name+"_", took)
	for _, m := range l.wires() {
		f[name+"_streams"] += float64(m.open.Load())
	}
	return nil
}

// noteCPU notes how much processor time this process and the bench's own etcd have used in some time.
func (l *lab) noteCPU(f map[string]float64, name string, own, etcd, took time.Duration) {
	f[name+"_cpu_percent"] = 100 * own.Seconds() / took.Seconds()
	if l.etcd.CPU != nil {
		f[name+"_etcd_cpu_percent"] = 100 * etcd.Seconds() / took.Seconds()
	}
}

// etcdCPU is how much processor time the bench's own etcd has used; 0 if that is unknown.
func (l *lab) etcdCPU() time.Duration {
	if l.etcd.CPU == nil {
		return 0
	}
	return l.etcd.CPU()
}

// inUse is how many bytes of memory this process needs, stacks included.
func inUse() int64 {
	_ = heap() // collects garbage
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// crowd is the members of many apps.
type crowd struct {
	lab        *lab
	handler    *handles
	connection *drm.Connection // nil: each member has its own
	wire       *wire           // of the connection
}

// startMany starts the members of many apps, each of which has a few resources.
func (l *lab) startMany(ctx context.Context, name string, apps int, shared bool) (c *crowd, err error) {
	c = &crowd{lab: l, handler: new(handles)}
	if shared {
		if c.wire, err = newWire(l.etcd.Config); err != nil {
			return c, err
		}
		if c.connection, err = drm.NewConnection(drm.EtcdConfig{
			Client: c.wire.client, DialTimeout: l.etcd.Config.DialTimeout, CommandTimeout: l.etcd.Config.CommandTimeout,
		}); err != nil {
			return c, errors.Join(err, c.wire.close())
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8 * manyMembers) // more at once would only wait for each other
	for a := range apps {
		app := fmt.Sprintf("%s-%03d", name, a)
		if err := l.fillApp(ctx, app); err != nil {
			return c, errors.Join(err, g.Wait())
		}
		for i := range manyMembers {
			g.Go(func() error { return c.start(ctx, app, fmt.Sprintf("%s-%d", app, i)) })
		}
	}
	return c, g.Wait()
}

// fillApp creates an app with a few resources.
func (l *lab) fillApp(ctx context.Context, app string) error {
	layout := keys.New(l.prefix, app)
	config, err := appconfig.Open(ctx, l.client, layout, 0, drm.DefaultShards)
	if err != nil {
		return err
	}
	var puts []clientv3.Op
	for n := range manyResources {
		e := catalogue.Entry{Allocated: true, Data: object(n, dataBytes, "x")}
		key := layout.Resource(shard.Of(id(n), config.Shards), id(n))
		puts = append(puts, clientv3.OpPut(key, string(e.Encode())))
	}
	_, err = l.client.Txn(ctx).Then(puts...).Commit()
	return err
}

func (c *crowd) start(ctx context.Context, app, id string) error {
	change := func(cfg *drm.Config) {
		cfg.App, cfg.Handler = app, c.handler
		if c.connection != nil {
			cfg.Etcd = drm.EtcdConfig{Connection: c.connection}
		}
	}
	if c.wire != nil {
		_, err := c.lab.startOn(ctx, c.wire, id, change)
		return err
	}
	_, err := c.lab.start(ctx, id, change)
	return err
}

// stop stops all members, and forgets what their apps have in etcd.
func (c *crowd) stop(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	g := new(errgroup.Group)
	g.SetLimit(50)
	for _, m := range c.lab.all() {
		g.Go(func() error {
			_ = m.Stop(ctx) // what a member leaves behind goes with its app
			if c.wire == nil {
				_ = m.wire.close()
			}
			return nil
		})
	}
	err := g.Wait()
	c.lab.forget()
	if c.connection != nil {
		err = errors.Join(err, c.connection.Close(), c.wire.close())
	}
	return err
}
