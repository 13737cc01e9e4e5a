package drm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
)

// The most of a fetch's outcome that is recorded: the record must fit into a request to etcd, whatever the source says.
const (
	maxRejected    = 100
	maxSourceError = 4096
)

// sourceRecord is the value of the source key.
type sourceRecord struct {
	LastSuccess time.Time `json:"last_success,omitzero"`
	LastAttempt time.Time `json:"last_attempt,omitzero"`
	Resources   int       `json:"resources"`
	Added       int       `json:"added"`
	Changed     int       `json:"changed"`
	Removed     int       `json:"removed"`
	Held        int       `json:"held"`               // removals that wait for a confirmation
	TooLarge    int       `json:"too_large"`          // resources that etcd did not take
	Rejected    []string  `json:"rejected,omitempty"` // the first of them
	Error       string    `json:"error"`
	NotBefore   time.Time `json:"not_before,omitzero"` // until when the source wants to be left alone

	Bad      int         `json:"bad"`                 // items of the last answer that are no resources, or too large
	BadItems []badRecord `json:"bad_items,omitempty"` // the first of them

	LastChange   sourceChange `json:"last_change,omitzero"`
	HeldRemovals heldRemovals `json:"held_removals,omitzero"`

	Attempt  int64            `json:"attempt_revision,omitempty"` // the revision at which the last attempt began
	Accepted acceptedRemovals `json:"accepted,omitzero"`

	catalogue.Vouch
}

// heldRemovals tells of the removals that wait for a confirmation.
type heldRemovals struct {
	Digest string    `json:"digest"`         // stands for the set of their ids
	IDs    []string  `json:"ids,omitempty"`  // the first of them
	Since  time.Time `json:"since"`          // since when there have been such
	Joined time.Time `json:"joined"`         // when the last of them joined the others: a successor counts from there
	Until  time.Time `json:"until,omitzero"` // an answer that is asked for after that confirms all; zero: none does
}

// acceptedRemovals is what came of the last order to make the removals that were held.
type acceptedRemovals struct {
	Revision int64  `json:"revision"` // of the order
	Removed  int    `json:"removed"`
	Error    string `json:"error,omitempty"` // why it was not carried out
}

// leftAlone is how long the source wants to be left alone still, by a clock that may not be that of who recorded it: never
// longer than it asked for, nor than mostDuration.
func (r *sourceRecord) leftAlone(now time.Time) time.Duration {
	if r.NotBefore.IsZero() {
		return 0
	}
	most := mostDuration
	if asked := r.NotBefore.Sub(r.LastAttempt); asked > 0 {
		most = min(most, asked)
	}
	return max(0, min(r.NotBefore.Sub(now), most))
}

// sourceChange is what the last answer did that changed anything. It is kept until the next one does, for the counts
// above tell of one fetch only, and a poll later of nothing.
type sourceChange struct {
	At      time.Time `json:"at"`
	Added   int       `json:"added"`
	Changed int       `json:"changed"`
	Removed int       `json:"removed"`
}

// status is what the record tells.
func (r sourceRecord) status() SourceStatus {
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
				if o.record, err = decodeSource(resp.Kvs[0].Value); err != nil {
					o.m.log.Warn("the record of the last fetches is corrupt; it is written anew", zap.Error(err))
				}
			}
			if wall := o.m.wall(); !o.record.NotBefore.IsZero() {
				left := o.record.leftAlone(wall)
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
		o.record.LastChange = sourceChange{o.m.wall().UTC(), out.Added, out.Changed, out.Removed}
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

// decodeSource reads the source key. What is not understood is as good as no record: the next fetch writes another.
func decodeSource(value []byte) (sourceRecord, error) {
	var r sourceRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return sourceRecord{}, err
	}
	if c := r.LastChange; min(r.Resources, r.Held, r.TooLarge, r.Bad, c.Added, c.Changed, c.Removed, r.Accepted.Removed) < 0 {
		return sourceRecord{}, errors.New("a count that is less than none")
	}
	if err := r.Check(); err != nil {
		return sourceRecord{}, err
	}
	return r, nil
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
		short.Error, short.Rejected, short.BadItems, short.HeldRemovals.IDs = clip(short.Error, most), nil, nil, nil
		err = o.putRecord(ctx, short)
	}
	o.vouched = o.vouched || err == nil
	return err
}

func (o *office) putRecord(ctx context.Context, record sourceRecord) error {
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
