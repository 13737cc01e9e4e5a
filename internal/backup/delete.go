package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

const (
	// deletedAtOnce bounds how many keys one transaction deletes, so that etcd is not kept from its other work.
	deletedAtOnce = 2000
	// rangesAtOnce is how many ranges a transaction counts or deletes, at most; etcd takes 128 operations by default.
	rangesAtOnce = 100
)

// InUseError says why an app cannot be deleted, or loaded: members are live, or have left something that lives on.
type InUseError struct {
	Members []string      // live members
	Claims  int           // claims of members that have ended
	Awaited []string      // members that have stopped and are expected back
	For     time.Duration // how long what is left lives on, as far as was looked; 0: not known
}

func (e *InUseError) Error() string {
	var left []string
	if e.Claims > 0 {
		left = append(left, fmt.Sprintf("%d claims of members that have ended", e.Claims))
	}
	if len(e.Awaited) > 0 {
		left = append(left, "reservations of members that have stopped ("+few(e.Awaited)+")")
	}
	switch {
	case len(e.Members) > 0:
		return "members are live, and have to be stopped first: " + few(e.Members)
	case e.For > 0:
		return fmt.Sprintf("%s are left in etcd, for up to %v more", strings.Join(left, " and "), e.For)
	default:
		return strings.Join(left, " and ") + " are left in etcd, until their leases end"
	}
}

// Deleted is what a deletion has done.
type Deleted struct{ Keys int64 } // how many keys this run has deleted

// Delete deletes everything that the app has, so that the app does not exist any more. A deletion, or a load, that was
// interrupted is finished that way. progress, unless nil, is called with the number of keys deleted so far.
//
// Errors: appconfig.ErrNoApp; *InUseError; *appconfig.ReshardError; a *appconfig.SchemaError of an app of a newer
// version; an error that matches etcd.ErrUnreachable. After any other error than the first four, nobody can open the
// app until Delete is called again.
func (a *App) Delete(ctx context.Context, progress func(keys int64)) (Deleted, error) {
	var done Deleted
	for {
		marker, err := a.hold(ctx, appconfig.Deleting, a.mayDelete)
		if err != nil {
			if errors.Is(err, appconfig.ErrNoApp) && done.Keys > 0 { // another process has finished it
				return done, nil
			}
			return done, err
		}
		err = a.wipe(ctx, marker, func(n int64) {
			done.Keys += n
			if progress != nil {
				progress(done.Keys)
			}
		})
		released := false
		if err == nil {
			released, err = a.release(ctx, marker, 0)
		}
		switch {
		case errors.Is(err, errOvertaken):
		case err != nil:
			return done, closed(err, appconfig.Deleting)
		case released:
			done.Keys++ // the config
			return done, nil
		}
	}
}

// mayDelete says whether a deletion may begin.
func (a *App) mayDelete(ctx context.Context, s appconfig.State) ([]clientv3.Cmp, error) {
	if s.Config == nil {
		any, err := a.any(ctx, a.besides())
		if err != nil {
			return nil, err
		}
		if !any {
			return nil, appconfig.ErrNoApp
		}
		return nil, a.idle(ctx)
	}
	_, err := appconfig.Decode(s.Config.Value)
	if errors.Is(err, appconfig.ErrResharding) || errors.Is(err, appconfig.ErrSchema) {
		return nil, err
	}
	return nil, a.idle(ctx) // a config that cannot be read at all is deleted like any other
}

// any says whether there is any key in some ranges.
func (a *App) any(ctx context.Context, spans []span) (bool, error) {
	for _, s := range spans {
		resp, err := a.get(ctx, s.from, clientv3.WithRange(s.end), clientv3.WithCountOnly())
		if err != nil {
			return false, fmt.Errorf("look for the app: %w", err)
		}
		if resp.Count > 0 {
			return true, nil
		}
	}
	return false, nil
}

// idle returns an *InUseError unless the members of the app have ended, and nothing of them lives on.
func (a *App) idle(ctx context.Context) error {
	use := &InUseError{}
	resp, err := a.get(ctx, a.Layout.Members(), clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return fmt.Errorf("read the members: %w", err)
	}
	for _, kv := range resp.Kvs {
		use.Members = append(use.Members, a.Layout.Parse(string(kv.Key)).ID)
	}
	if len(use.Members) > 0 {
		return use
	}
	leases := map[int64]struct{}{}
	resp, err = a.get(ctx, a.Layout.Reservations(), clientv3.WithPrefix())
	if err != nil {
		return fmt.Errorf("read the reservations: %w", err)
	}
	for _, kv := range resp.Kvs {
		if kv.Lease != 0 {
			use.Awaited = append(use.Awaited, a.Layout.Parse(string(kv.Key)).ID)
			leases[kv.Lease] = struct{}{}
		}
	}
	if use.Claims, err = a.claims(ctx, leases); err != nil {
		return err
	}
	if len(leases) == 0 { // what is on no lease says nothing about a process
		return nil
	}
	for id := range leases {
		asking, cancel := context.WithTimeout(ctx, a.Timeout)
		ttl, err := a.Client.TimeToLive(asking, clientv3.LeaseID(id))
		cancel()
		if err != nil {
			return etcd.Unreachable(ctx, fmt.Errorf("read the leases: %w", err))
		}
		use.For = max(use.For, time.Duration(ttl.TTL+1)*time.Second)
	}
	return use
}

// claims counts the claims on leases, roughly, and adds their leases, as far as it looks.
func (a *App) claims(ctx context.Context, leases map[int64]struct{}) (n int, err error) {
	counts, err := a.counts(ctx, a.Layout.Claims)
	if err != nil {
		return 0, fmt.Errorf("count the claims: %w", err)
	}
	for shard, count := range counts {
		if count == 0 {
			continue
		}
		resp, err := a.get(ctx, a.Layout.Claims(shard), clientv3.WithPrefix(), clientv3.WithLimit(deletedAtOnce))
		if err != nil {
			return 0, fmt.Errorf("read the claims: %w", err)
		}
		leased := slices.ContainsFunc(resp.Kvs, func(kv *mvccpb.KeyValue) bool { return kv.Lease != 0 })
		for _, kv := range resp.Kvs {
			if kv.Lease != 0 {
				leases[kv.Lease] = struct{}{}
			}
		}
		if leased {
			n += int(count)
		}
	}
	return n, nil
}

// counts counts the keys below a prefix of each shard that there can be.
func (a *App) counts(ctx context.Context, prefix func(shard int) string) ([]int64, error) {
	all := make([]int64, 0, keys.MaxShards)
	for most := rangesAtOnce; len(all) < keys.MaxShards; {
		var ops []clientv3.Op
		for n := len(all); n < min(len(all)+most, keys.MaxShards); n++ {
			ops = append(ops, clientv3.OpGet(prefix(n), clientv3.WithPrefix(), clientv3.WithCountOnly()))
		}
		var resp *clientv3.TxnResponse
		err := a.patiently(ctx, func(ctx context.Context) (err error) {
			resp, err = a.Client.Txn(ctx).Then(ops...).Commit()
			return err
		})
		switch {
		case errors.Is(err, rpctypes.ErrTooManyOps) && most > 1:
			most /= 2
			continue
		case err != nil:
			return nil, etcd.Unreachable(ctx, err)
		}
		for _, r := range resp.Responses {
			all = append(all, r.GetResponseRange().Count)
		}
	}
	return all, nil
}

// wipe deletes everything but the config and the marker.
func (a *App) wipe(ctx context.Context, marker *mvccpb.KeyValue, deleted func(n int64)) error {
	counts, err := a.counts(ctx, a.Layout.Shard)
	if err != nil {
		return fmt.Errorf("count the keys: %w", err)
	}
	var batch []clientv3.Op
	size, most := int64(0), rangesAtOnce
	flush := func() error {
		for len(batch) > 0 {
			part := batch[:min(len(batch), most)]
			n, err := a.remove(ctx, marker, part...)
			if errors.Is(err, rpctypes.ErrTooManyOps) && len(part) > 1 {
				most = max(1, len(part)/2)
				continue
			}
			if err != nil {
				return err
			}
			deleted(n)
			batch = batch[len(part):]
		}
		size = 0
		return nil
	}
	for shard, count := range counts {
		prefix := a.Layout.Shard(shard)
		switch {
		case count > deletedAtOnce:
			if err := a.wipeSpan(ctx, marker, span{prefix, clientv3.GetPrefixRangeEnd(prefix)}, deleted); err != nil {
				return err
			}
		case count > 0:
			if size+count > deletedAtOnce || len(batch) == rangesAtOnce {
				if err := flush(); err != nil {
					return err
				}
			}
			batch, size = append(batch, clientv3.OpDelete(prefix, clientv3.WithPrefix())), size+count
		}
	}
	if err := flush(); err != nil {
		return err
	}
	for _, s := range a.besides() {
		if err := a.wipeSpan(ctx, marker, s, deleted); err != nil {
			return err
		}
	}
	return nil
}

// wipeSpan deletes a range of keys, page by page.
func (a *App) wipeSpan(ctx context.Context, marker *mvccpb.KeyValue, s span, deleted func(n int64)) error {
	for {
		resp, err := a.get(ctx, s.from, clientv3.WithRange(s.end), clientv3.WithKeysOnly(),
			clientv3.WithLimit(deletedAtOnce))
		if err != nil {
			return fmt.Errorf("list the keys: %w", err)
		}
		if len(resp.Kvs) == 0 {
			return nil
		}
		s.from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
		n, err := a.remove(ctx, marker, clientv3.OpDelete(string(resp.Kvs[0].Key), clientv3.WithRange(s.from)))
		if err != nil {
			return err
		}
		deleted(n)
	}
}

// remove deletes ranges of keys, unless somebody has taken over, and says how many keys these were.
func (a *App) remove(ctx context.Context, marker *mvccpb.KeyValue, ops ...clientv3.Op) (n int64, err error) {
	held := clientv3.Compare(clientv3.CreateRevision(a.Layout.Reshard()), "=", marker.CreateRevision)
	var resp *clientv3.TxnResponse
	err = a.patiently(ctx, func(ctx context.Context) (err error) {
		resp, err = a.Client.Txn(ctx).If(held).Then(ops...).Commit()
		return err
	})
	switch {
	case err != nil:
		return 0, etcd.Unreachable(ctx, fmt.Errorf("delete the keys: %w", err))
	case !resp.Succeeded:
		return 0, errOvertaken
	}
	for _, r := range resp.Responses {
		n += r.GetResponseDeleteRange().Deleted
	}
	return n, nil
}

// get reads keys.
func (a *App) get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	var resp *clientv3.GetResponse
	err := a.patiently(ctx, func(ctx context.Context) (err error) {
		resp, err = a.Client.Get(ctx, key, opts...)
		return err
	})
	return resp, etcd.Unreachable(ctx, err)
}

// few joins the first of some names, and counts the others.
func few(all []string) string {
	const most = 5
	if len(all) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
	}
	return strings.Join(all, ", ")
}
