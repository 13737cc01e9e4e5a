package drm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/record"
	"github.com/distributed-resource-manager/drm/internal/usercode"
)

// The most of a fetch's outcome that is recorded: the record must fit into a request to etcd, whatever the source says.
const (
	maxRejected    = 100
	maxSourceError = 4096
)

// statusOf is what a record tells.
func statusOf(r record.Source) SourceStatus {
	s := SourceStatus{
		LastSuccess: r.LastSuccess, LastAttempt: r.LastAttempt, Resources: r.Resources, Error: r.Error, NotBefore: r.NotBefore,
		Held: r.Held, TooLarge: r.TooLarge, LastChange: SourceChange(r.LastChange), Bad: r.Bad,
		HeldIDs: r.HeldRemovals.IDs, HeldSince: r.HeldRemovals.Since, HeldUntil: r.HeldRemovals.Until, HeldDigest: r.HeldRemovals.Digest,
	}
	for _, b := range r.BadItems {
		s.BadItems = append(s.BadItems, SourceBadItem{b.Index, b.ID, b.Error})
	}
	return s
}

// readRecord takes over the outcome of earlier terms, and reports whether no fetch of the app has ever succeeded.
func (o *office) readRecord(ctx context.Context) (fresh bool) {
	for failures := 0; ; failures++ {
		asking, cancel := context.WithTimeout(ctx, o.m.cfg.Etcd.CommandTimeout)
		resp, err := o.m.kv.Get(asking, o.m.layout.Source())
		cancel()
		if err == nil {
			if len(resp.Kvs) > 0 {
				if o.record, err = record.DecodeSource(resp.Kvs[0].Value); err != nil {
					o.m.log.Warn("the record of the last fetches is corrupt; it is written anew", zap.Error(err))
				}
			}
			if wall := o.m.wall(); !o.record.NotBefore.IsZero() {
				left := o.record.LeftAlone(wall)
				o.notBefore = o.m.now() + left
				if by := wall.Add(left); by.Before(o.record.NotBefore) { // the recorder's clock is ahead; the next reader's time counts down
					o.record.NotBefore = by.UTC()
				}
			}
			return o.record.LastSuccess.IsZero()
		}
		if !pauseFor(ctx, retryPause(failures)) {
			return false
		}
	}
}

func (o *office) tell(out catalogue.Outcome) {
	o.record.Resources, o.record.Added, o.record.Changed = out.Resources, out.Added, out.Changed
	o.record.Removed, o.record.TooLarge = out.Removed, len(out.Rejected)
	slices.Sort(out.Rejected) // so that the record changes only where they do
	o.record.Rejected = out.Rejected[:min(len(out.Rejected), maxRejected)]
	if out.Added+out.Changed+out.Removed > 0 {
		o.record.LastChange = record.Change{At: o.m.wall().UTC(), Added: out.Added, Changed: out.Changed, Removed: out.Removed}
	}
	o.recordHeld()
	if out.Added+out.Changed+out.Removed+len(out.Rejected) > 0 {
		o.m.log.Info("source synchronised", zap.Int("resources", out.Resources), zap.Int("added", out.Added),
			zap.Int("changed", out.Changed), zap.Int("removed", out.Removed), zap.Int("removals held", out.Held),
			zap.Int("too large", o.record.TooLarge), zap.Strings("of them", o.record.Rejected))
	}
	if out.Bulk && out.Removed > 0 {
		o.m.log.Warn("removed many resources, which the source has no more", zap.Int("removed", out.Removed),
			zap.Int("resources", out.Resources), zap.Strings("first", firstFew(out.Gone)))
	}
	o.tellHeld()
}

// writeVouch records that there is a source, and a coordinator that asks it: Deallocate needs to know, and members that have
// none.
func (o *office) writeVouch(ctx context.Context) {
	if err := o.writeRecord(ctx); err != nil && ctx.Err() == nil {
		o.m.log.Warn("cannot record that there is a source", zap.Error(err))
	}
}

// writeRecord writes the outcome of the fetches. Where etcd takes only small requests, its lists and texts are cut short.
func (o *office) writeRecord(ctx context.Context) error {
	o.record.Vouch = catalogue.VouchFor(o.term, o.m.wall(), o.m.cfg.SourceGone, Forever)
	err := o.putRecord(ctx, o.record)
	for most := maxSourceError / 2; errors.Is(err, rpctypes.ErrRequestTooLarge) && most >= 64; most /= 2 {
		short := o.record
		short.Error, short.Rejected, short.BadItems, short.HeldRemovals.IDs = usercode.Clip(short.Error, most), nil, nil, nil
		err = o.putRecord(ctx, short)
	}
	o.vouched = o.vouched || err == nil
	return err
}

func (o *office) putRecord(ctx context.Context, record record.Source) error {
	b, err := json.Marshal(record)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.m.cfg.Etcd.CommandTimeout)
	defer cancel()
	txn, err := o.m.kv.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(o.m.layout.Coordinator()), "=", o.term)).
		Then(clientv3.OpPut(o.m.layout.Source(), string(b))).
		Commit()
	if err != nil {
		return fmt.Errorf("record the fetch: %w", err)
	}
	if !txn.Succeeded {
		return catalogue.ErrDeposed
	}
	return nil
}
