package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/excerpt"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/internal/record"
)

// The most of a fetch's outcome that is recorded: the record must fit into a request to etcd, whatever the source says.
const (
	maxRejected    = 100
	maxSourceError = 4096
)

// readRecord takes over the outcome of earlier terms, and reports whether no fetch of the app has ever succeeded.
func (t *Term) readRecord(ctx context.Context) (fresh bool) {
	for pauses := pace.Retry(); ; {
		noted, _, err := t.getRecord(ctx)
		if err == nil {
			t.record = noted
			t.inheritRest()
			return t.record.LastSuccess.IsZero()
		}
		if !pauses.Wait(ctx) {
			return false
		}
	}
}

// getRecord reads the source's record and its mod revision; 0 where there is none. A corrupt record is as good as an
// empty one.
func (t *Term) getRecord(ctx context.Context) (noted record.Source, revision int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.o.CommandTimeout)
	defer cancel()
	resp, err := t.o.KV.Get(ctx, t.o.Layout.Source())
	if err != nil || len(resp.Kvs) == 0 {
		return noted, 0, err
	}
	noted, corrupt := record.DecodeSource(resp.Kvs[0].Value)
	if corrupt != nil {
		t.o.Log.Warn("the record of the last fetches is corrupt; it is written anew", zap.Error(corrupt))
	}
	return noted, resp.Kvs[0].ModRevision, nil
}

// inheritRest takes over until when the source wants to be left alone. Where the clock of who recorded that is ahead,
// the record is made to say it by this member's clock, so that the time goes on for the next reader.
func (t *Term) inheritRest() {
	if t.record.NotBefore.IsZero() {
		return
	}
	wall := t.o.Wall()
	left := t.record.LeftAlone(wall)
	t.notBefore = t.o.Now() + left
	if by := wall.Add(left); by.Before(t.record.NotBefore) {
		t.record.NotBefore = by.UTC()
	}
}

// note takes what an answer has changed in the catalogue into the record, and logs it.
func (t *Term) note(out catalogue.Outcome) {
	t.record.Resources, t.record.Added, t.record.Changed = out.Resources, out.Added, out.Changed
	t.record.Removed, t.record.TooLarge = out.Removed, len(out.Rejected)
	slices.Sort(out.Rejected) // so that the record changes only where they do
	t.record.Rejected = out.Rejected[:min(len(out.Rejected), maxRejected)]
	if out.Added+out.Changed+out.Removed > 0 {
		t.record.LastChange = record.Change{
			At: t.o.Wall().UTC(), Added: out.Added, Changed: out.Changed, Removed: out.Removed,
		}
	}
	t.recordHeld()
	if out.Added+out.Changed+out.Removed+len(out.Rejected) > 0 {
		t.o.Log.Info("source synchronised", zap.Int("resources", out.Resources), zap.Int("added", out.Added),
			zap.Int("changed", out.Changed), zap.Int("removed", out.Removed), zap.Int("removals_held", out.Held),
			zap.Int("too_large", t.record.TooLarge), zap.Strings("too_large_ids", t.record.Rejected))
	}
	if out.Bulk && out.Removed > 0 {
		t.o.Log.Warn("removed many resources, which the source has no more", zap.Int("removed", out.Removed),
			zap.Int("resources", out.Resources), zap.Strings("first", firstFew(out.Gone)))
	}
	t.tellHeld()
}

// writeVouch records that there is a source, and a coordinator that asks it: Deallocate needs to know that, and members
// that have no source.
func (t *Term) writeVouch(ctx context.Context) {
	if err := t.writeRecord(ctx); err != nil && ctx.Err() == nil {
		t.o.Log.Warn("cannot record that there is a source", zap.Error(err))
	}
}

// writeRecord writes the outcome of the fetches. Where etcd takes only small requests, its lists and texts are cut
// short.
func (t *Term) writeRecord(ctx context.Context) error {
	t.record.Vouch = catalogue.VouchFor(t.number, t.o.Wall(), t.o.Gone, Forever)
	err := t.putRecord(ctx, t.record)
	for most := maxSourceError / 2; errors.Is(err, rpctypes.ErrRequestTooLarge) && most >= 64; most /= 2 {
		short := t.record
		short.Error, short.Rejected, short.BadItems, short.HeldRemovals.IDs = excerpt.Clip(
			short.Error,
			most,
		), nil, nil, nil
		err = t.putRecord(ctx, short)
	}
	t.vouched = t.vouched || err == nil
	return err
}

// putRecord puts the record, unless this member is not the coordinator any more.
func (t *Term) putRecord(ctx context.Context, record record.Source) error {
	b, err := json.Marshal(record)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, t.o.CommandTimeout)
	defer cancel()
	txn, err := t.o.KV.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(t.o.Layout.Coordinator()), "=", t.number)).
		Then(clientv3.OpPut(t.o.Layout.Source(), string(b))).
		Commit()
	if err != nil {
		return fmt.Errorf("record the fetch: %w", err)
	}
	if !txn.Succeeded {
		return catalogue.ErrDeposed
	}
	return nil
}
