package membership

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// Errors of Open, Find and Follow.
var (
	// ErrNoApp says that nobody has created the app yet.
	ErrNoApp = errors.New("no such app")
	// ErrShards says that the app was created with another number of shards than the caller asked for.
	ErrShards = errors.New("app has another number of shards")
	// ErrRewound says that etcd was restored from a snapshot, or replaced: its data is older than what was seen before.
	ErrRewound = errors.New("etcd was rewound or replaced")
)

// Group is the group of an app's members: where its keys are in etcd, and what all members have agreed on. Open and
// Find make it. It is a plain value that never changes; copy it freely.
type Group struct {
	// Root is the prefix of all the app's keys, with a slash at its end, such as "/drm/example/".
	Root string
	// Shards is the number of shards that the members share, 1 to 4096. It is fixed when the app is created.
	Shards int
	// Config is the create revision of the key that makes the app exist. A Registrar compares it, so that no member
	// joins an app that was deleted and created again meanwhile. Reading and following ignore it.
	Config int64
}

// Open returns the group of an app whose keys lie below a prefix, such as "/drm". If the app does not exist, Open
// creates it with that number of shards, 1 to 4096. (DRM's own default is 1024; each shard costs its owner a watch.) An
// app that exists keeps the number that it was created with; ErrShards says that shards is another one. When several
// callers create an app at the same time, one of them does it, and all get the same group. It is an error if another
// version wrote the app's config key, or somebody has overwritten it.
func Open(ctx context.Context, kv clientv3.KV, prefix, app string, shards int) (Group, error) {
	layout, err := layoutOf(prefix, app)
	if err != nil {
		return Group{}, err
	}
	config, err := appconfig.Open(ctx, kv, layout, shards, shards)
	var other *appconfig.ShardsError
	if errors.As(err, &other) {
		err = fmt.Errorf("%w: it was created with %d, not %d", ErrShards, other.Has, other.Asked)
	}
	if err != nil {
		return Group{}, fmt.Errorf("open the app %q below %q: %w", app, prefix, err)
	}
	return groupOf(layout, config), nil
}

// Find returns the group of an app that exists, with whatever number of shards it has, and creates nothing. ErrNoApp
// says that the app does not exist.
func Find(ctx context.Context, kv clientv3.KV, prefix, app string) (Group, error) {
	layout, err := layoutOf(prefix, app)
	if err != nil {
		return Group{}, err
	}
	config, err := appconfig.Read(ctx, kv, layout)
	if errors.Is(err, appconfig.ErrNoApp) {
		err = ErrNoApp
	}
	if err != nil {
		return Group{}, fmt.Errorf("find the app %q below %q: %w", app, prefix, err)
	}
	return groupOf(layout, config), nil
}

func layoutOf(prefix, app string) (keys.Layout, error) {
	if err := keys.CheckID(app); err != nil {
		return keys.Layout{}, fmt.Errorf("app: got %q, want %w", app, err)
	}
	return keys.New(prefix, app), nil
}

func groupOf(layout keys.Layout, config appconfig.Config) Group {
	return Group{Root: layout.Root(), Shards: config.Shards, Config: config.CreateRevision}
}

func (g Group) layout() keys.Layout { return keys.At(g.Root) }

// Read returns the view of the group now, from one linearizable read.
func (g Group) Read(ctx context.Context, kv clientv3.KV) (*View, error) {
	resp, err := kv.Get(ctx, g.layout().Group(), clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("read the members: %w", err)
	}
	return g.View(resp.Kvs, resp.Header.Revision), nil
}

// View makes the view of keys that the caller has read: kvs is everything below the group's prefix (Root followed by
// "group/") at one revision, in any order.
func (g Group) View(kvs []*mvccpb.KeyValue, revision int64) *View {
	return NewView(g.Root, g.Shards, kvs, revision)
}
