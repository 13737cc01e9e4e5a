// Package appconfig reads and creates the key that makes an app exist: its schema and its number of shards. The key is
// created once and never rewritten; a change of the number of shards (internal/reshard) deletes it and creates it anew,
// with a barrier in its place meanwhile. Everything that writes claims or resources compares its create revision, so
// that nobody goes on in an app that was deleted and created again.
package appconfig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/deed"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// Schema is the version of the layout in etcd that this code reads and writes.
const Schema = 1

// ErrNoApp says that no member or client has created the app yet.
var ErrNoApp = errors.New("no such app")

// ErrGone says that the app's config key is gone, or was created again: this is no longer the app that the caller
// opened. Nothing was written.
var ErrGone = errors.New("the app's config key is gone from etcd")

// ErrRewritten says that somebody has overwritten the key, which DRM never does. To repair it, stop all members, delete
// the key, and start the members with the number of shards that they had.
var ErrRewritten = errors.New("the app's config in etcd was overwritten: want it as it was created")

// ErrCorrupt says that the value of the app's config key is not understood.
var ErrCorrupt = errors.New("the app's config in etcd is corrupt")

// ErrSchema says that the app, or one of its members, has a version of what is in etcd that this program does not know.
// A *SchemaError matches it.
var ErrSchema = errors.New("another version of what is in etcd")

// ShardsError says that an app has another number of shards than the caller asked for.
type ShardsError struct{ Has, Asked int }

func (e *ShardsError) Error() string {
	return fmt.Sprintf("the app was created with %d shards, not %d", e.Has, e.Asked)
}

// SchemaError says that an app was created by a version of DRM with another layout in etcd.
type SchemaError struct{ Has int }

func (e *SchemaError) Error() string {
	if e.Has > Schema {
		return fmt.Sprintf("the app's config has schema %d, and this program reads %d: upgrade this program",
			e.Has, Schema)
	}
	return fmt.Sprintf("the app's config has schema %d, which no version has written, and this program reads %d: "+
		"put back what was there", e.Has, Schema)
}

// Is makes errors.Is find ErrSchema.
func (e *SchemaError) Is(target error) bool { return target == ErrSchema }

// Config is an app's config. It never changes while the app exists.
type Config struct {
	Shards         int   // 1 to keys.MaxShards
	CreateRevision int64 // the key's create revision: an app that was deleted and created again has another one
}

type value struct {
	Schema int `json:"schema"`
	Shards int `json:"shards"`

	Reshard *resharding `json:"reshard,omitempty"` // of a barrier only
	Task    Task        `json:"task,omitempty"`    // of a barrier only
}

// Encode returns the value of the key of an app with that many shards.
func Encode(shards int) string { return encode(value{Schema: Schema, Shards: shards}) }

func encode(v value) string {
	b, err := json.Marshal(v)
	if err != nil { // numbers can always be marshalled
		panic(err)
	}
	return string(b)
}

// Read returns the app's config, or ErrNoApp. A *SchemaError says that another version created the app; a *ReshardError
// that its number of shards is being changed; a *TaskError that it is being deleted or loaded.
func Read(ctx context.Context, kv clientv3.KV, layout keys.Layout) (Config, error) {
	resp, err := commit(ctx, kv, layout, nil, gets(layout), nil)
	if err != nil {
		return Config{}, fmt.Errorf("read the app's config: %w", err)
	}
	return found(resp)
}

// commit carries out a transaction whose first comparison and operation are about the config. If etcd takes only one of
// each, it looks for a change of the number of shards beforehand.
func commit(
	ctx context.Context, kv clientv3.KV, layout keys.Layout, cmps []clientv3.Cmp, then, otherwise []clientv3.Op,
) (*clientv3.TxnResponse, error) {
	resp, err := kv.Txn(ctx).If(cmps...).Then(then...).Else(otherwise...).Commit()
	if !errors.Is(err, rpctypes.ErrTooManyOps) {
		return resp, err
	}
	marker, err := kv.Get(ctx, layout.Reshard())
	if err != nil {
		return nil, err
	}
	if len(marker.Kvs) > 0 {
		return nil, Unfinished(marker.Kvs[0].Value)
	}
	one := func(ops []clientv3.Op) []clientv3.Op { return ops[:min(1, len(ops))] }
	return kv.Txn(ctx).If(cmps[:min(1, len(cmps))]...).Then(one(then)...).Else(one(otherwise)...).Commit()
}

// gets are the reads whose answers found understands.
func gets(layout keys.Layout) []clientv3.Op {
	return []clientv3.Op{clientv3.OpGet(layout.Config()), clientv3.OpGet(layout.Reshard())}
}

// found returns the config that a transaction has read, or why there is none.
func found(resp *clientv3.TxnResponse) (Config, error) {
	config, marker := single(resp, 0), single(resp, 1)
	switch {
	case marker != nil: // the config may be anything
		return Config{}, Unfinished(marker.Value)
	case config == nil:
		return Config{}, ErrNoApp
	}
	return read(config)
}

// Open returns the app's config. If the app does not exist, Open creates it with asked shards, 1 to keys.MaxShards, or
// with fallback shards if asked is 0. If it exists, any number of shards will do if asked is 0; otherwise a
// *ShardsError says that the number differs. A *SchemaError says that another version created the app; a *ReshardError
// that its number of shards is being changed; a *TaskError that it is being deleted or loaded. When several callers
// open a new app at once, one of them creates it, and all get the same answer.
func Open(ctx context.Context, kv clientv3.KV, layout keys.Layout, asked, fallback int) (Config, error) {
	return OpenAs(ctx, kv, layout, asked, fallback, deed.Origin{})
}

// OpenAs is Open by somebody who is recorded where this call creates the app, unless etcd takes but one operation in a
// transaction.
func OpenAs(
	ctx context.Context, kv clientv3.KV, layout keys.Layout, asked, fallback int, origin deed.Origin,
) (Config, error) {
	fresh := asked
	if fresh == 0 {
		fresh = fallback
	}
	if fresh < 1 || fresh > keys.MaxShards { // otherwise nobody could ever read it
		return Config{}, fmt.Errorf("open the app's config: %d shards, want 1 to %d", fresh, keys.MaxShards)
	}
	key := layout.Config()
	absent := []clientv3.Cmp{
		clientv3.Compare(clientv3.CreateRevision(key), "=", 0),
		clientv3.Compare(clientv3.CreateRevision(layout.Reshard()), "=", 0),
	}
	create := []clientv3.Op{clientv3.OpPut(key, Encode(fresh))}
	if !origin.IsZero() {
		create = append(create, clientv3.OpPut(layout.Deed(), origin.At(time.Now()).Encode()))
	}
	txn, err := commit(ctx, kv, layout, absent, create, gets(layout))
	if err != nil {
		return Config{}, fmt.Errorf("open the app's config: %w", err)
	}
	if txn.Succeeded {
		return Config{Shards: fresh, CreateRevision: txn.Header.Revision}, nil
	}
	c, err := found(txn)
	if err != nil {
		return Config{}, err
	}
	if asked != 0 && asked != c.Shards {
		return Config{}, &ShardsError{Has: c.Shards, Asked: asked}
	}
	return c, nil
}

// read decodes the key. It refuses a key that was overwritten, even one that it can read: if its number of shards
// differed from that of the running members, the same resource could have two claims.
func read(kv *mvccpb.KeyValue) (Config, error) {
	c, err := Decode(kv.Value)
	if err != nil {
		return Config{}, err
	}
	if kv.ModRevision != kv.CreateRevision {
		return Config{}, ErrRewritten
	}
	c.CreateRevision = kv.CreateRevision
	return c, nil
}

// Decode reads the value of the key. The Config lacks the revision. A barrier is an error, as for Read.
func Decode(b []byte) (Config, error) {
	var v value
	if err := json.Unmarshal(b, &v); err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if v.Schema == barrier && v.Reshard != nil {
		return Config{}, &ReshardError{From: v.Reshard.From, To: v.Reshard.To}
	}
	if v.Schema == barrier && v.Task != "" {
		return Config{}, &TaskError{v.Task}
	}
	if v.Schema != Schema {
		return Config{}, &SchemaError{Has: v.Schema}
	}
	if v.Shards < 1 || v.Shards > keys.MaxShards {
		return Config{}, fmt.Errorf("%w: %d shards", ErrCorrupt, v.Shards)
	}
	return Config{Shards: v.Shards}, nil
}
