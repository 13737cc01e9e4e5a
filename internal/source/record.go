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

// These bound the record, which must fit into one request to etcd, whatever the source says.
const (
	maxRejected    = 100  // ids of items that were too large
	maxSourceError = 4096 // bytes of the source's error
)

// readRecord reads the outcome of earlier terms into t.record, and reports whether no fetch of the app has ever
// succeeded. It tries until it has read the record, or ctx ends; then read is false.
func (t *Term) readRecord(ctx context.Context) (fresh, read bool) {
	for pauses := pace.Retry(); ; {
		noted, _, err := t.getRecord(ctx)
		if err == nil {
			t.record = noted
			t.inheritRest()
			return t.record.LastSuccess.IsZero(), true
		}
		if !pauses.Wait(ctx) {
			return false, false
		}
	}
}

// getRecord reads the source's record and its mod revision, which is 0 if there is no record. A corrupt record counts
// as an empty one.
func (t *Term) getRecord(ctx context.Context) (noted record.Source, revision int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.o.CommandTimeout)
	defer cancel()
	resp, err := t.o.KV.Get(ctx, t.o.Layout.Source())
	if err != nil || len(resp.Kvs) == 0 {
		return noted, 0, err
	}
	noted, corrupt := record.DecodeSource(resp.Kvs[0].Value)
	if corrupt != nil {
		t.o.Log.Warn("the source's record is corrupt; replacing it", zap.Error(corrupt))
	}
	return noted, resp.Kvs[0].ModRevision, nil
}

// inheritRest takes over until when the source wants to be left alone. If the clock of the member that recorded this
// was ahead, it changes t.record to this member's clock, so that the next reader does not wait for too long.
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

// note writes into t.record what an answer has changed in the catalogue, and logs it.
func (t *Term) note(out catalogue.Outcome) {
	t.record.Resources, t.record.Added, t.record.Changed = out.Resources, out.Added, out.Changed
	t.record.Removed, t.record.TooLarge = out.Removed, len(out.Rejected)
	slices.Sort(out.Rejected) // so that another order does not change the record
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
		t.o.Log.Warn("removed many resources that the source no longer has", zap.Int("removed", out.Removed),
			zap.Int("resources", out.Resources), zap.Strings("first", firstFew(out.Gone)))
	}
	t.tellHeld()
}

// writeVouch records that there is a source, and a coordinator that asks it. Deallocate, and members without a source,
// need to know that.
func (t *Term) writeVouch(ctx context.Context) {
	if err := t.writeRecord(ctx); err != nil && ctx.Err() == nil {
		t.o.Log.Warn("cannot record that there is a source", zap.Error(err))
	}
}

// writeRecord writes t.record to etcd, with a new vouch. If etcd refuses the request because of its size, it leaves out
// the lists and shortens the error.
func (t *Term) writeRecord(ctx context.Context) error {
	t.record.PollMS = t.o.PollInterval.Milliseconds()
	t.record.Vouch = catalogue.VouchFor(t.number, t.o.Wall(), t.o.Gone, Forever)
	err := t.putRecord(ctx, t.record)
	for most := maxSourceError / 2; errors.Is(err, rpctypes.ErrRequestTooLarge) && most >= 64; most /= 2 {
		short := t.record
		short.Error = excerpt.Clip(short.Error, most)
		short.Rejected, short.BadItems, short.HeldRemovals.IDs = nil, nil, nil
		err = t.putRecord(ctx, short)
	}
	t.vouched = t.vouched || err == nil
	return err
}

// putRecord puts a record, if this member is still the coordinator.
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
