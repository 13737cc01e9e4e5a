package drm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/record"
)

// vouchEvery is how often a coordinator renews what the source's record says about the source being there, or counts that it
// is not: often enough that what is lost with a coordinator is little of SourceGone.
func vouchEvery(after time.Duration) time.Duration {
	return min(max(after/32, 100*time.Millisecond), 30*time.Minute)
}

// runAlone is the term of a coordinator that has no source. It counts the time that there is none, and forgets what the source
// left once that is as long as SourceGone.
func (o *office) runAlone(ctx context.Context) {
	m := o.m
	if m.cfg.SourceGone == Forever {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(vouchEvery(m.cfg.SourceGone))
	defer tick.Stop()
	since := m.now()
	for {
		passed := m.now() - since
		switch counted, err := o.countAlone(ctx, passed); {
		case ctx.Err() != nil:
			return
		case isEndOfTerm(err):
			m.log.Debug("the term has ended", zap.Error(err))
		case err != nil:
			m.log.Warn("cannot see to what a source has left; trying again", zap.Error(err))
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

// countAlone adds to the time that the app has been without a source, as the source's record says, and forgets the source when
// it is gone. counted is false where somebody else wrote the record meanwhile.
func (o *office) countAlone(ctx context.Context, passed time.Duration) (counted bool, err error) {
	m := o.m
	noted, revision, err := o.readAlone(ctx)
	if err != nil || revision == 0 {
		return err == nil, err // where there is no record, there is no source to forget
	}
	after := m.cfg.SourceGone
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
			m.log.Warn("no member has had a source for as long as SourceGone; removing what only the source wanted", zap.Duration("source_gone", after))
		}
		if revision, err = o.putAlone(ctx, noted, revision); err != nil || revision == 0 || !noted.Gone {
			return revision != 0, err
		}
	}
	done, err := m.store.Forget(ctx, revision)
	if done != (catalogue.Forgotten{}) || err == nil {
		m.log.Warn("forgot a source that is gone", zap.Int("removed", done.Removed), zap.Int("kept, since allocated", done.Kept),
			zap.Int("no longer suspended", done.Suspended), zap.Bool("complete", err == nil))
	}
	if errors.Is(err, catalogue.ErrSourceBack) {
		err = nil // a member with a source has come, or somebody drops it: the next look tells
	}
	return true, err
}

// readAlone reads the source's record and its mod revision; 0 where there is none.
func (o *office) readAlone(ctx context.Context) (noted record.Source, revision int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.m.cfg.Etcd.CommandTimeout)
	defer cancel()
	resp, err := o.m.kv.Get(ctx, o.m.layout.Source())
	if err != nil || len(resp.Kvs) == 0 {
		return noted, 0, err
	}
	if noted, err = record.DecodeSource(resp.Kvs[0].Value); err != nil {
		o.m.log.Warn("the record of the last fetches is corrupt; it is written anew", zap.Error(err))
	}
	return noted, resp.Kvs[0].ModRevision, nil
}

// putAlone writes the source's record where it is still the one of a mod revision, and returns the new one: 0 where it is not.
func (o *office) putAlone(ctx context.Context, noted record.Source, revision int64) (int64, error) {
	b, err := json.Marshal(noted)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, o.m.cfg.Etcd.CommandTimeout)
	defer cancel()
	resp, err := o.m.kv.Txn(ctx).
		If(
			clientv3.Compare(clientv3.CreateRevision(o.m.layout.Coordinator()), "=", o.term),
			clientv3.Compare(clientv3.ModRevision(o.m.layout.Source()), "=", revision),
		).
		Then(clientv3.OpPut(o.m.layout.Source(), string(b))).
		Commit()
	if err != nil {
		return 0, fmt.Errorf("record that there is no source: %w", err)
	}
	if !resp.Succeeded {
		return 0, nil
	}
	return resp.Header.Revision, nil
}
