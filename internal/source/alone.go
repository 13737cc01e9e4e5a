package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/record"
)

// vouchEvery returns how often a coordinator with a source renews its vouch in the record, and how often one without a
// source adds to the time without. That is often enough that little of SourceGone is lost when a coordinator dies.
func vouchEvery(after time.Duration) time.Duration {
	return min(max(after/32, 100*time.Millisecond), 30*time.Minute)
}

// runAlone is the term of a coordinator that has no source. It counts the time for which the app has had no source, and
// once that is as long as SourceGone it removes what the source has left.
func (t *Term) runAlone(ctx context.Context) {
	if t.o.Gone == Forever {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(vouchEvery(t.o.Gone))
	defer tick.Stop()
	since := t.o.Now()
	for {
		passed := t.o.Now() - since
		switch counted, err := t.countAlone(ctx, passed); {
		case ctx.Err() != nil:
			return
		case isEndOfTerm(err):
			t.o.Log.Debug("the term has ended", zap.Error(err))
		case err != nil:
			t.o.Log.Warn("cannot count the time without a source, or forget the source; retrying", zap.Error(err))
		case counted:
			since += passed
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// countAlone adds passed to the time without a source in the source's record, and removes what the source has left when
// it is gone. counted is false if another client wrote the record meanwhile.
func (t *Term) countAlone(ctx context.Context, passed time.Duration) (counted bool, err error) {
	noted, revision, err := t.getRecord(ctx)
	if err != nil || revision == 0 {
		return err == nil, err // without a record there is no source to forget
	}
	after := t.o.Gone
	switch recorded := noted.AfterMS; {
	case noted.Gone:
	case recorded == -1:
		return true, nil
	case recorded > 0:
		after = max(after, time.Duration(recorded)*time.Millisecond)
	}
	if !noted.Gone {
		noted.AloneMS += passed.Milliseconds()
		if noted.Gone = noted.AloneMS >= after.Milliseconds(); noted.Gone {
			t.o.Log.Warn("no member has had a source for as long as SourceGone; removing what only the source wanted",
				zap.Duration("source_gone", after))
		}
		if revision, err = t.putAlone(ctx, noted, revision); err != nil || revision == 0 || !noted.Gone {
			return revision != 0, err
		}
	}
	done, err := t.o.Store.Forget(ctx, revision)
	if done != (catalogue.Forgotten{}) || err == nil {
		t.o.Log.Warn("forgot a source that is gone",
			zap.Int("removed", done.Removed), zap.Int("kept_allocated", done.Kept),
			zap.Int("no_longer_suspended", done.Suspended), zap.Bool("complete", err == nil))
	}
	if errors.Is(err, catalogue.ErrSourceBack) {
		err = nil // a member with a source has come, or an operator drops the source: the next call sees which
	}
	return true, err
}

// putAlone writes the source's record if its mod revision is still the given one, and returns the new mod revision; 0
// if the record has changed.
func (t *Term) putAlone(ctx context.Context, noted record.Source, revision int64) (int64, error) {
	b, err := json.Marshal(noted)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, t.o.CommandTimeout)
	defer cancel()
	resp, err := t.o.KV.Txn(ctx).
		If(
			clientv3.Compare(clientv3.CreateRevision(t.o.Layout.Coordinator()), "=", t.number),
			clientv3.Compare(clientv3.ModRevision(t.o.Layout.Source()), "=", revision),
		).
		Then(clientv3.OpPut(t.o.Layout.Source(), string(b))).
		Commit()
	if err != nil {
		return 0, fmt.Errorf("record that there is no source: %w", err)
	}
	if !resp.Succeeded {
		return 0, nil
	}
	return resp.Header.Revision, nil
}
