package picture

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// EachApp lists the apps below a prefix, sorted by name, whichever app the Reader is for, from a name on. Each costs a
// request for one key. It ends after an error.
func (r *Reader) EachApp(ctx context.Context, prefix, from string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		all := keys.Apps(prefix)
		key, end := all+keys.Escape(from), clientv3.GetPrefixRangeEnd(all)
		for {
			first, err := r.first(ctx, key, end)
			if err != nil {
				yield("", fmt.Errorf("list the apps: %w", err))
				return
			}
			if first == nil {
				return
			}
			name, _, app := strings.Cut(strings.TrimPrefix(string(first.Key), all), "/")
			if id, err := keys.Unescape(name); app && err == nil && !yield(id, nil) {
				return
			}
			key = all + name + "0" // "0" follows "/", so this skips the other keys of the app
		}
	}
}

// App is what is known of an app without reading what is in it.
type App struct {
	Config  appconfig.Config
	Err     error // why there is no Config, as appconfig.Read says; nil: there is one
	Members int
}

// App reads the config, and counts the members.
func (r *Reader) App(ctx context.Context) (App, error) {
	asking, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	var a App
	a.Config, a.Err = appconfig.Read(asking, r.Client, r.Layout)
	if asking.Err() != nil || etcd.IsUnreachable(a.Err) || reachedNot(a.Err) {
		return App{}, etcd.Unreachable(ctx, a.Err)
	}
	members, err := r.Client.Get(asking, r.Layout.Members(), clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return App{}, etcd.Unreachable(ctx, fmt.Errorf("count the members: %w", err))
	}
	a.Members = int(members.Count)
	return a, nil
}

// reachedNot says whether an error comes from etcd, and not from what the config says.
func reachedNot(err error) bool {
	var refused rpctypes.EtcdError
	return errors.As(err, &refused)
}

// Counts is how much of each kind an app has.
type Counts struct {
	Revision    int64
	Keys        int
	Resources   int
	Claims      int
	Quarantined int
	Orders      int
	Source      bool
	Coordinator string
}

// countedAtOnce is how many ranges a transaction counts; etcd takes 128 operations by default.
const countedAtOnce = 100

// Count counts the keys of an app at one revision, whether or not its config can be read. It begins anew if etcd
// compacts that revision meanwhile.
func (r *Reader) Count(ctx context.Context) (Counts, error) {
	return retry(func() (Counts, error) { return r.countOnce(ctx) })
}

func (r *Reader) countOnce(ctx context.Context) (Counts, error) {
	office, err := r.page(ctx, r.Layout.Coordinator(), "", 0, 0)
	if err != nil {
		return Counts{}, fmt.Errorf("read the coordinator's key: %w", err)
	}
	c := Counts{Revision: office.Header.Revision}
	for _, kv := range office.Kvs {
		c.Coordinator = string(kv.Value)
	}
	l, source := r.Layout, 0
	counts := []counted{
		{l.Root(), &c.Keys},
		{l.Drains(), &c.Orders},
		{l.Cordons(), &c.Orders},
		{l.Weights(), &c.Orders},
		{l.Pins(), &c.Orders},
		{l.Moves(), &c.Orders},
		{l.Source(), &source},
	}
	perShard := make([]int, keys.MaxShards) // whatever the config says, since it may say nothing
	for n := range perShard {
		counts = append(counts, counted{l.Shard(n), &perShard[n]})
	}
	if err := r.countAll(ctx, counts, c.Revision); err != nil {
		return Counts{}, err
	}
	counts = nil
	for n, has := range perShard {
		if has > 0 {
			counts = append(counts, counted{l.Resources(n), &c.Resources}, counted{l.Claims(n), &c.Claims},
				counted{l.Quarantines(n), &c.Quarantined})
		}
	}
	c.Source = source > 0
	return c, r.countAll(ctx, counts, c.Revision)
}

// counted is a prefix below which keys are counted.
type counted struct {
	prefix string
	n      *int // the count is added
}

// countAll counts the keys below prefixes.
func (r *Reader) countAll(ctx context.Context, all []counted, revision int64) error {
	for most := countedAtOnce; len(all) > 0; {
		part := all[:min(most, len(all))]
		ops := make([]clientv3.Op, len(part))
		for i, p := range part {
			ops[i] = clientv3.OpGet(p.prefix,
				clientv3.WithPrefix(), clientv3.WithCountOnly(), clientv3.WithRev(revision))
		}
		asking, cancel := context.WithTimeout(ctx, r.Timeout)
		resp, err := r.Client.Txn(asking).Then(ops...).Commit()
		cancel()
		switch {
		case errors.Is(err, rpctypes.ErrTooManyOps) && most > 1:
			most = max(1, len(part)/2)
			continue
		case err != nil:
			return etcd.Unreachable(ctx, fmt.Errorf("count the keys: %w", err))
		}
		for i, one := range resp.Responses {
			*part[i].n += int(one.GetResponseRange().Count)
		}
		all = all[len(part):]
	}
	return nil
}
