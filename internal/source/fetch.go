package source

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/excerpt"
	"github.com/distributed-resource-manager/drm/internal/record"
)

// manyItems is how many resources a fresh app's first answer must have for the coordinator not to own the empty shards
// while it writes the answer. To claim each resource when a watch shows it would slow down the writing, and a list of
// all is cheaper than a million events.
const manyItems = 10_000

// fetch asks the source once, makes its answer the catalogue, and records the outcome.
func (t *Term) fetch(ctx context.Context) error {
	attempt, err := t.take(ctx)
	if ctx.Err() != nil || errors.Is(err, catalogue.ErrDeposed) {
		return err
	}
	t.record.LastAttempt, t.record.Attempt = t.o.Wall().UTC(), attempt
	t.record.Error = ""
	t.heed(err)
	if err != nil {
		t.record.Error = excerpt.Clip(err.Error(), maxSourceError)
	} else {
		t.record.LastSuccess = t.record.LastAttempt
	}
	werr := t.writeRecord(ctx)
	if werr == nil {
		t.recorded = attempt
	}
	if err == nil || isEndOfTerm(werr) { // at the end of the term, a failure of the source does not matter
		err = werr
	}
	return err
}

// take asks the source once, and makes its answer the catalogue. It returns the revision at which the attempt began, or
// that of the last attempt if etcd did not tell it.
func (t *Term) take(ctx context.Context) (attempt int64, err error) {
	attempt = t.record.Attempt
	if err := t.source.calls.free(); err != nil { // before the catalogue is read in vain
		if now, unknown := t.revision(ctx); unknown == nil {
			attempt = now
		}
		return attempt, err
	}
	if !t.vouched { // without the vouch, another client could forget the source while this term reads the catalogue
		if err := t.writeRecord(ctx); err != nil {
			return attempt, err
		}
	}
	if err := t.sync.Load(ctx, t.o.Hub); err != nil {
		return attempt, err
	}
	began, err := t.revision(ctx)
	if err != nil {
		return attempt, fmt.Errorf("ask etcd for its revision: %w", err)
	}
	t.sync.Ask()
	out, err := t.apply(ctx, began)
	if err == nil {
		t.note(out)
	}
	return began, err
}

// apply asks the source, and makes its answer the catalogue. It asks for everything if the source says that nothing has
// changed since an answer that did not become the catalogue in full, or that another member got.
func (t *Term) apply(ctx context.Context, began int64) (catalogue.Outcome, error) {
	calls := &t.source.calls
	a := calls.ask(ctx, false)
	if a.Unchanged && !a.everything {
		out, err := t.sync.Unchanged(ctx, began)
		if !errors.Is(err, catalogue.ErrNoAnswer) {
			return out, writing(err)
		}
		a = calls.ask(ctx, true)
	}
	if a.Unchanged {
		return catalogue.Outcome{}, blame(fmt.Errorf("it was asked for everything, and answered: %w", ErrNotModified))
	}
	if a.failed != nil {
		return catalogue.Outcome{}, a.failed
	}
	return t.write(ctx, a.Answer, began)
}

// write makes the items of an answer the catalogue.
func (t *Term) write(ctx context.Context, a Answer, began int64) (catalogue.Outcome, error) {
	items, bad := a.Items.Check()
	if err := t.refuses(bad, len(items), a.Before); err != nil {
		t.sync.Refused()
		t.tellBad(bad, true)
		return catalogue.Outcome{}, blame(err)
	}
	if t.fresh && !slices.Contains(t.sync.Vacant(), false) {
		t.o.Place(ctx, items)
	}
	if t.fresh && len(items) >= manyItems {
		t.o.StepBack(t.sync.Vacant())
		defer t.o.StepBack(nil)
	}
	keep, all := bad.Keep()
	out, err := t.sync.Apply(ctx, catalogue.Answer{Items: items, Keep: keep, KeepAll: all}, began)
	if err != nil {
		return out, writing(err)
	}
	t.source.calls.taken()
	for _, id := range slices.Sorted(slices.Values(out.Rejected)) {
		bad.AddTooLarge(id)
	}
	if t.tellBad(bad, false) {
		t.source.calls.tell(bad.AsError(a.Before))
	}
	return out, nil
}

func writing(err error) error {
	if err != nil {
		return fmt.Errorf("write the catalogue: %w", err)
	}
	return nil
}

// heed notes for how long the source wants to be left alone, as the error of a fetch says. Neither this coordinator nor
// the next one asks it earlier.
func (t *Term) heed(err error) {
	t.notBefore, t.record.NotBefore = 0, time.Time{}
	source, is := err.(*sourceError) //nolint:errorlint // nothing wraps it, and it does not unwrap
	if !is || source.After <= 0 {
		return
	}
	after := min(source.After, record.MostLeftAlone)
	t.notBefore, t.record.NotBefore = t.o.Now()+after, t.record.LastAttempt.Add(after)
}

// revision returns the current revision of etcd.
func (t *Term) revision(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, t.o.CommandTimeout)
	defer cancel()
	resp, err := t.o.KV.Get(ctx, t.o.Layout.Config(), clientv3.WithKeysOnly())
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}
