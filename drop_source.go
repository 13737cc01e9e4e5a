package drm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/record"
)

// DropSource says that the app has no source from now on, without waiting for Config.SourceGone. What nobody but the source
// wanted is removed from the catalogue; what an allocation wants besides stays, as the allocation's; what was deallocated is
// not kept suspended any more; and the record of the source's fetches is deleted. It returns how many resources it removed,
// also where it failed before it was done: calling it again does the rest. A member that is started with a Retriever afterwards
// begins as in a new app.
//
// Errors: a *SourceInUseError (ErrSourceInUse) while a member that has a Retriever is alive; ErrNoApp; ErrAppGone; ErrUnreachable.
func (c *Client) DropSource(ctx context.Context) (removed int, err error) {
	config, store, err := c.toDrop(ctx)
	if err != nil {
		return 0, fmt.Errorf("drop the source: %w", err)
	}
	for {
		if err := c.sourceInUse(ctx, config); err != nil {
			return removed, fmt.Errorf("drop the source: %w", err)
		}
		revision, ok, err := c.markGone(ctx)
		if err != nil {
			return removed, fmt.Errorf("drop the source: %w", etcd.Unreachable(ctx, err))
		}
		if !ok {
			continue
		}
		done, err := store.Forget(ctx, revision)
		removed += done.Removed
		if errors.Is(err, catalogue.ErrSourceBack) {
			continue // a member with a source has come, or somebody else has forgotten the source
		}
		return removed, writeError(ctx, err)
	}
}

// SourceLeaves tells how many resources DropSource would remove now, and removes none. Its errors are those of DropSource.
func (c *Client) SourceLeaves(ctx context.Context) (removed int, err error) {
	config, store, err := c.toDrop(ctx)
	if err == nil {
		err = c.sourceInUse(ctx, config)
	}
	if err != nil {
		return 0, fmt.Errorf("look at what the source leaves: %w", err)
	}
	removed, err = store.Leaves(ctx)
	return removed, writeError(ctx, err)
}

// toDrop opens an app that is to lose its source.
func (c *Client) toDrop(ctx context.Context) (appconfig.Config, *catalogue.Store, error) {
	config, err := c.open(ctx, false)
	if err != nil {
		return config, nil, c.noApp(err)
	}
	store, err := c.store(ctx, false)
	return config, store, err
}

// sourceInUse returns an error where a live member has a source.
func (c *Client) sourceInUse(ctx context.Context, config appconfig.Config) error {
	group, err := c.readerOf(config).Group(ctx)
	if err != nil {
		return err
	}
	var have []string
	for id, member := range group.Members {
		if member.Source {
			have = append(have, id)
		}
	}
	if len(have) == 0 {
		return nil
	}
	return &SourceInUseError{Member: slices.Min(have)}
}

// markGone records that the source is gone, so that nothing is suspended any more, and returns the record's mod revision; 0 where
// there is none. False says that somebody else wrote it meanwhile.
func (c *Client) markGone(ctx context.Context) (revision int64, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Etcd.CommandTimeout)
	defer cancel()
	resp, err := c.client.Get(ctx, c.layout.Source())
	if err != nil || len(resp.Kvs) == 0 {
		return 0, err == nil, err
	}
	kv := resp.Kvs[0]
	noted, err := record.DecodeSource(kv.Value)
	if err != nil {
		noted = record.Source{} // a corrupt one is as good as none
	}
	if noted.Gone {
		return kv.ModRevision, true, nil
	}
	noted.Gone = true
	b, err := json.Marshal(noted)
	if err != nil {
		return 0, false, err
	}
	put, err := c.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(c.layout.Source()), "=", kv.ModRevision)).
		Then(clientv3.OpPut(c.layout.Source(), string(b))).
		Commit()
	if err != nil {
		return 0, false, err
	}
	return put.Header.Revision, put.Succeeded, nil
}
