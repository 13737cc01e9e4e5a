package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// patience bounds the waits for things that should take seconds.
const patience = 5 * time.Minute

// lab is an app of its own on an etcd, for one bench.
type lab struct {
	opts    Options
	etcd    Etcd
	client  *clientv3.Client
	prefix  string
	layout  keys.Layout
	handler *counter

	mu      sync.Mutex
	members map[string]*member
}

// member is a manager with a connection of its own.
type member struct {
	*drm.Manager
	wire *wire
}

func newLab(ctx context.Context, name string, opts Options) (*lab, error) {
	if opts.Scale == 0 {
		opts.Scale = 1
	}
	if opts.Resources == 0 {
		opts.Resources = takeoverResources
	}
	if opts.Runs == 0 {
		opts.Runs = takeoverRuns
	}
	if opts.Say == nil {
		opts.Say = func(string) {}
	}
	l := &lab{opts: opts, members: map[string]*member{}, prefix: fmt.Sprintf("/drm-bench/%s-%08x", name, rand.Uint32())}
	var err error
	if l.etcd, err = opts.Etcd(ctx); err != nil {
		return nil, err
	}
	l.layout = keys.New(l.prefix, app)
	cfg := clientConfig(l.etcd.Config)
	cfg.DialTimeout = max(cfg.DialTimeout, time.Second)
	if l.client, _, err = etcd.Connect(ctx, cfg, l.layout.Config(), false); err != nil {
		return nil, errors.Join(err, l.stopEtcd())
	}
	return l, nil
}

// clientConfig returns the config of a client like the library's own.
func clientConfig(c drm.EtcdConfig) etcd.Config {
	return etcd.Config{
		Endpoints: c.Endpoints, TLS: c.TLS, GetTLS: c.GetTLS,
		Username: c.Username, Password: c.Password, DialTimeout: c.DialTimeout,
	}
}

func (l *lab) stopEtcd() error {
	if l.etcd.Stop == nil {
		return nil
	}
	return l.etcd.Stop()
}

// app is the name of the app of every lab. Labs differ in their prefixes.
const app = "bench"

// close stops everything that still runs. It stops members in order only where the etcd belongs to somebody else, and
// leaves that etcd as it was.
func (l *lab) close(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	var wg sync.WaitGroup
	for _, m := range l.all() {
		if l.etcd.Stop != nil {
			m.wire.cut() // the etcd goes with all that the member has there
		}
		wg.Go(func() { l.stop(ctx, m) })
	}
	wg.Wait()
	var err error
	if l.etcd.Stop == nil {
		err = l.clear(ctx)
	}
	return errors.Join(err, l.client.Close(), l.stopEtcd())
}

// clear removes what the bench has written, one shard at a time: etcd stalls while it deletes millions of keys at once.
func (l *lab) clear(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	prefixes := []string{l.prefix + "/"}
	for s := range drm.DefaultShards { // every lab's app has that many
		prefixes = append(prefixes, l.layout.Shard(s))
	}
	for _, p := range slices.Backward(prefixes) {
		if _, err := l.client.Delete(ctx, p, clientv3.WithPrefix()); err != nil {
			return fmt.Errorf("clear %s: %w", l.prefix, err)
		}
	}
	return nil
}

func (l *lab) all() []*member {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*member
	for _, m := range l.members {
		all = append(all, m)
	}
	return all
}

// wires returns the connections of all members, each once.
func (l *lab) wires() []*wire {
	var wires []*wire
	seen := map[*wire]bool{}
	for _, m := range l.all() {
		if !seen[m.wire] {
			seen[m.wire] = true
			wires = append(wires, m.wire)
		}
	}
	return wires
}

// forget forgets the members, which have been stopped.
func (l *lab) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.members)
}

func (l *lab) say(format string, args ...any) { l.opts.Say(fmt.Sprintf(format, args...)) }

// size returns n resources multiplied by the scale.
func (l *lab) size(n int) int { return max(10, int(float64(n)*l.opts.Scale)) }

// id is the id of the nth resource. number is the inverse.
func id(n int) string { return fmt.Sprintf("resource-%07d", n) }

func number(id string) int {
	n := 0
	for _, d := range id[len(id)-7:] {
		n = 10*n + int(d-'0')
	}
	return n
}

// dataBytes is the size of the data of each resource.
const dataBytes = 100

// object is the data of the nth resource. letter fills it up to that many bytes.
func object(n, bytes int, letter string) json.RawMessage {
	head := fmt.Sprintf(`{"id":%q,"data":"`, id(n))
	return json.RawMessage(head + strings.Repeat(letter, max(0, bytes-len(head)-2)) + `"}`)
}

// objects are n resources.
func objects(n int) []drm.Resource {
	list := make([]drm.Resource, n)
	for i := range list {
		list[i] = drm.Resource{ID: id(i), Data: object(i, dataBytes, "x")}
	}
	return list
}

// fill puts n resources into the catalogue as allocations, so that members need no source.
func (l *lab) fill(ctx context.Context, n int) error {
	config, err := appconfig.Open(ctx, l.client, l.layout, 0, drm.DefaultShards)
	if err != nil {
		return err
	}
	l.say("filling the catalogue with %d resources", n)
	const atOnce = 50_000 // with more, filling the catalogue would decide the peak of memory
	for from := 0; from < n; from += atOnce {
		entries := make([]clientv3.Op, min(atOnce, n-from))
		for i := range entries {
			e := catalogue.Entry{Allocated: true, Data: object(from+i, dataBytes, "x")}
			key := l.layout.Resource(shard.Of(id(from+i), config.Shards), id(from+i))
			entries[i] = clientv3.OpPut(key, string(e.Encode()))
		}
		if _, err := batched(ctx, l.client, drm.DefaultMaxInFlight, entries); err != nil {
			return err
		}
	}
	return nil
}

// start starts a member whose handler only counts.
func (l *lab) start(ctx context.Context, id string, change func(*drm.Config)) (*member, error) {
	w, err := newWire(l.etcd.Config)
	if err != nil {
		return nil, err
	}
	return l.startOn(ctx, w, id, change)
}

func (l *lab) startOn(ctx context.Context, w *wire, id string, change func(*drm.Config)) (*member, error) {
	cfg := drm.Config{
		App: app, Prefix: l.prefix, ID: id, Handler: l.handler, AllocateOnly: true,
		LeaseTTL: l.opts.LeaseTTL, StopTimeout: time.Minute,
		Etcd: drm.EtcdConfig{
			Client: w.client, DialTimeout: l.etcd.Config.DialTimeout, CommandTimeout: l.etcd.Config.CommandTimeout,
		},
	}
	if change != nil {
		change(&cfg)
	}
	m, err := drm.Start(ctx, cfg)
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	member := &member{m, w}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.members[id] = member
	return member, nil
}

// group starts n members at once.
func (l *lab) group(ctx context.Context, n int, change func(*drm.Config)) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range n {
		g.Go(func() error {
			_, err := l.start(ctx, fmt.Sprintf("member-%03d", i), change)
			return err
		})
	}
	return g.Wait()
}

// stop stops a member. It waits only for a short time for a member that was cut off.
func (l *lab) stop(ctx context.Context, m *member) {
	if m.wire.isCut() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Second)
		defer cancel()
	}
	_ = m.Stop(ctx) // what the member leaves behind goes with the app
	_ = m.wire.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.members, m.ID())
}

// settled waits until that many members share all n resources, and each resource is where it belongs. It asks the
// handler first, which costs nothing while members are at work. Then etcd must say the same.
func (l *lab) settled(ctx context.Context, members, n int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		owners, active, err := l.owners(ctx)
		if err != nil {
			return err
		}
		misplaced := l.handler.misplaced(owners)
		if active == members && misplaced == 0 {
			break
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("not settled: %d of %d resources are not where they belong, %d members: %w",
				misplaced, n, active, err)
		}
	}
	if n > mostRead {
		return nil
	}
	c, err := drm.NewClient(ctx, drm.ClientConfig{App: app, Prefix: l.prefix, Etcd: drm.EtcdConfig{Client: l.client}})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // this does not close the connection, which belongs to the lab
	for {
		s, err := c.Status(ctx)
		if err != nil {
			return err
		}
		if s.Active == n && s.Misplaced == 0 && s.Members == members {
			return nil
		}
		if err := pause(ctx, 250*time.Millisecond); err != nil {
			return fmt.Errorf("not settled: %d of %d active, %d misplaced, %d members: %w",
				s.Active, n, s.Misplaced, s.Members, err)
		}
	}
}

// mostRead is how many resources an app may have that settled reads as a whole. Reading a larger one would take more
// memory than anything else.
const mostRead = 250_000

// owners returns the owner of each shard now, and how many members are active.
func (l *lab) owners(ctx context.Context) (owners []string, active int, err error) {
	config, err := appconfig.Read(ctx, l.client, l.layout)
	if err != nil {
		return nil, 0, err
	}
	v, err := membership.Group{Root: l.layout.Root(), Shards: config.Shards}.Read(ctx, l.client)
	if err != nil {
		return nil, 0, err
	}
	for _, m := range v.Members {
		if m.State == membership.Active {
			active++
		}
	}
	return v.Owners(), active, nil
}

func pause(ctx context.Context, d time.Duration) error {
	if !pace.Wait(ctx, d) {
		return context.Cause(ctx)
	}
	return nil
}

// age waits until members have handled what they have for so long that it is not suspected when one of them dies: what
// is suspected begins more slowly.
func (l *lab) age(ctx context.Context) error {
	const young = 12 * time.Second // members count with 10 s
	l.say("waiting for %v, until nothing has begun just now", young)
	return pause(ctx, young)
}

// await waits until a channel is closed, for patience at most. what completes its error.
func await(ctx context.Context, what string, done <-chan struct{}) error {
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return fmt.Errorf("%s: not within %v", what, patience)
	}
}
