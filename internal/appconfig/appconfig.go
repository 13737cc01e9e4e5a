// Package appconfig reads and creates the key that makes an app exist: its schema and its number of shards. It is
// created once and never rewritten; everything that writes claims or resources compares its create revision, so that
// nobody goes on in an app that was deleted and made anew.
package appconfig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/keys"
)

// Schema is the version of the layout in etcd that this code reads and writes.
const Schema = 1

// ErrNoApp says that no member or client has created the app yet.
var ErrNoApp = errors.New("no such app")

// ErrGone says that the app's config key is not there any more, or was made anew: it is another app than the one that
// the caller has opened. Nothing was written.
var ErrGone = errors.New("the app's config key is gone from etcd")

// ErrRewritten says that somebody has overwritten the key, which DRM never does. Stop all members, delete it, and start
// them with the number of shards that they had.
var ErrRewritten = errors.New("the app's config in etcd was overwritten: want it as it was created")

// ShardsError says that an app has another number of shards than asked for.
type ShardsError struct{ Has, Asked int }

func (e *ShardsError) Error() string {
	return fmt.Sprintf("the app was created with %d shards, not %d", e.Has, e.Asked)
}

// SchemaError says that an app was created by a version of DRM whose layout in etcd is another one.
type SchemaError struct{ Has int }

func (e *SchemaError) Error() string {
	return fmt.Sprintf("the app's config has schema %d, and this version reads %d", e.Has, Schema)
}

// Config is an app's config. It never changes while the app exists.
type Config struct {
	Shards         int   // 1 to keys.MaxShards
	CreateRevision int64 // of the key: an app that was deleted and made anew has another
}

type value struct {
	Schema int `json:"schema"`
	Shards int `json:"shards"`
}

// Read returns the app's config, or ErrNoApp. A *SchemaError says that it is another version's.
func Read(ctx context.Context, kv clientv3.KV, layout keys.Layout) (Config, error) {
	resp, err := kv.Get(ctx, layout.Config())
	if err != nil {
		return Config{}, fmt.Errorf("read the app's config: %w", err)
	}
	if len(resp.Kvs) == 0 {
		return Config{}, ErrNoApp
	}
	return read(resp.Kvs[0])
}

// Open returns the app's config, and creates the app if need be with the shards asked for, 1 to keys.MaxShards; 0 asks
// for what there is, or fallback. A *ShardsError says that there is another number, a *SchemaError that the app is
// another version's. Of many that open a new app at once, one creates it, and all get the same answer.
func Open(ctx context.Context, kv clientv3.KV, layout keys.Layout, asked, fallback int) (Config, error) {
	fresh := asked
	if fresh == 0 {
		fresh = fallback
	}
	if fresh < 1 || fresh > keys.MaxShards { // or nobody could ever read it
		return Config{}, fmt.Errorf("open the app's config: %d shards, want 1 to %d", fresh, keys.MaxShards)
	}
	b, err := json.Marshal(value{Schema, fresh})
	if err != nil {
		return Config{}, err
	}
	key := layout.Config()
	txn, err := kv.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, string(b))).
		Else(clientv3.OpGet(key)).
		Commit()
	if err != nil {
		return Config{}, fmt.Errorf("open the app's config: %w", err)
	}
	if txn.Succeeded {
		return Config{Shards: fresh, CreateRevision: txn.Header.Revision}, nil
	}
	c, err := read(txn.Responses[0].GetResponseRange().Kvs[0])
	if err != nil {
		return Config{}, err
	}
	if asked != 0 && asked != c.Shards {
		return Config{}, &ShardsError{Has: c.Shards, Asked: asked}
	}
	return c, nil
}

// read takes the key as it is. One that was overwritten is refused, even where it can be read: with another number of
// shards than the members have that run, the same resource would have two claims.
func read(kv *mvccpb.KeyValue) (Config, error) {
	c, err := decode(kv.Value)
	if err != nil {
		return Config{}, err
	}
	if kv.ModRevision != kv.CreateRevision {
		return Config{}, ErrRewritten
	}
	c.CreateRevision = kv.CreateRevision
	return c, nil
}

func decode(b []byte) (Config, error) {
	var v value
	if err := json.Unmarshal(b, &v); err != nil {
		return Config{}, fmt.Errorf("the app's config in etcd is corrupt: %w", err)
	}
	if v.Schema != Schema {
		return Config{}, &SchemaError{Has: v.Schema}
	}
	if v.Shards < 1 || v.Shards > keys.MaxShards {
		return Config{}, fmt.Errorf("the app's config in etcd is corrupt: %d shards", v.Shards)
	}
	return Config{Shards: v.Shards}, nil
}
