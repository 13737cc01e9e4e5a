package order

import (
	"context"
	"encoding/json"
	"errors"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/record"
)

// DropSource makes the app one without a source, as Store.Forget does it. It returns how many resources it removed,
// also where it failed before all was done: calling it again does the rest.
//
// Errors: a *SourceInUseError while a live member has a source; appconfig.ErrGone; those of a Reader.
func (d *Desk) DropSource(ctx context.Context, store *catalogue.Store) (removed int, err error) {
	for {
		if err := d.sourceInUse(ctx); err != nil {
			return removed, err
		}
		revision, ok, err := d.markGone(ctx)
		if err != nil {
			return removed, err
		}
		if !ok {
			continue
		}
		done, err := store.Forget(ctx, revision)
		removed += done.Removed
		if errors.Is(err, catalogue.ErrSourceBack) {
			continue // a member with a source has come, or somebody else has forgotten the source
		}
		return removed, err
	}
}

// SourceLeaves counts the resources that DropSource would remove now, and removes none. Its errors are those of
// DropSource.
func (d *Desk) SourceLeaves(ctx context.Context, store *catalogue.Store) (removed int, err error) {
	if err := d.sourceInUse(ctx); err != nil {
		return 0, err
	}
	return store.Leaves(ctx)
}

func (d *Desk) sourceInUse(ctx context.Context) error {
	member, err := d.withSource(ctx)
	if member == "" || err != nil {
		return err
	}
	return &SourceInUseError{member}
}

// markGone records that the source is gone, so that nothing is suspended any more, and returns the record's mod
// revision; 0 where there is no record. ok is false where somebody else wrote the record meanwhile.
func (d *Desk) markGone(ctx context.Context) (revision int64, ok bool, err error) {
	key := d.Reader.Layout.Source()
	err = d.ask(ctx, func(ctx context.Context) error {
		resp, err := d.Reader.Client.Get(ctx, key)
		if err != nil || len(resp.Kvs) == 0 {
			ok = err == nil
			return err
		}
		kv := resp.Kvs[0]
		noted, err := record.DecodeSource(kv.Value)
		if err != nil {
			noted = record.Source{} // a corrupt record is as good as none
		}
		if noted.Gone {
			revision, ok = kv.ModRevision, true
			return nil
		}
		noted.Gone = true
		value, err := json.Marshal(noted)
		if err != nil {
			return err
		}
		put, err := d.Reader.Client.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", kv.ModRevision)).
			Then(clientv3.OpPut(key, string(value))).
			Commit()
		if err != nil {
			return err
		}
		revision, ok = put.Header.Revision, put.Succeeded
		return nil
	})
	return revision, ok, err
}
