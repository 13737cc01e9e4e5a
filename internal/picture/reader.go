package picture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/deed"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/record"
	"github.com/distributed-resource-manager/drm/membership"
)

// ErrNotFound says that the catalogue does not want a resource, and that nobody has a claim on it.
var ErrNotFound = errors.New("not found")

// ErrCompacted says that etcd has forgotten the revision that was asked for, or at which everything was to be read.
var ErrCompacted = errors.New("etcd has compacted that revision")

// Reader reads one app. All fields must be set. It has no state of its own, so it may be copied, and any goroutine may
// call its methods. An error matches etcd.ErrUnreachable if etcd did not answer a request in time, but not if the
// caller's context has ended.
type Reader struct {
	Client *clientv3.Client
	Layout keys.Layout // of the app
	// Shards is the app's number of shards. While nobody knows it, it may be 0: then only Exists, Apps, Source,
	// VerifyConfig and FollowOwners may be called.
	Shards  int
	Timeout time.Duration // of each request
}

// maxReads is how often a reading is begun, at most, because etcd compacted its revision meanwhile.
const maxReads = 10

// Read reads members, source, catalogue and claims, all at one revision. It begins anew if etcd compacts that revision
// before all pages were read. All of it is in memory then; EachAssignment, EachResource, Status and Verify read as much
// and keep little.
func (r *Reader) Read(ctx context.Context) (*Picture, error) {
	return retry(func() (*Picture, error) { return r.readOnce(ctx, nil) })
}

// ReadAll does the same as Read, and also reads everything else below the app's prefix, so that the picture knows of
// keys that belong to nothing.
func (r *Reader) ReadAll(ctx context.Context) (*Picture, error) { return r.readAll(ctx, nil) }

// readAll is ReadAll, and calls done after each resource unless done is nil. Then the picture forgets the resource.
func (r *Reader) readAll(ctx context.Context, done func(p *Picture, id string) error) (*Picture, error) {
	return retry(func() (*Picture, error) {
		p, err := r.readOnce(ctx, done)
		if err == nil {
			err = r.readRest(ctx, p)
		}
		return p, err
	})
}

// Status sums up the app at one revision. It keeps no resources in memory.
func (r *Reader) Status(ctx context.Context) (Status, error) {
	p, err := r.readAll(ctx, func(p *Picture, id string) error {
		if e, known := p.entries[id]; known {
			p.count(&p.counted, id, e)
		}
		return nil
	})
	if err != nil {
		return Status{}, err
	}
	return p.Status(), nil
}

// retry calls read until it is done before etcd compacts its revision, but not for ever.
func retry[T any](read func() (T, error)) (found T, err error) {
	for range maxReads {
		if found, err = read(); !errors.Is(err, rpctypes.ErrCompacted) {
			break
		}
	}
	return found, err
}

func (r *Reader) readOnce(ctx context.Context, done func(p *Picture, id string) error) (*Picture, error) {
	group, err := r.groupKeys(ctx)
	if err != nil {
		return nil, err
	}
	p := newPicture(r.Layout, membership.NewView(r.Layout.Root(), r.Shards, group.Kvs, group.Header.Revision))
	for _, kv := range group.Kvs {
		if _, found := slices.BinarySearch(p.view.Corrupt, string(kv.Key)); found {
			p.bad(kv)
		}
	}
	source, err := r.page(ctx, r.Layout.Source(), "", p.view.Revision, 0)
	if err != nil {
		return nil, fmt.Errorf("read the source's record: %w", err)
	}
	for _, kv := range source.Kvs {
		if p.source, err = record.DecodeSource(kv.Value); err != nil {
			p.bad(kv)
		}
	}
	var forget func(string) error
	if done != nil {
		forget = func(id string) error {
			err := done(p, id)
			p.forget(id)
			return err
		}
	}
	if err := r.scan(ctx, p, forget); err != nil {
		return nil, fmt.Errorf("read resources and claims: %w", err)
	}
	return p, nil
}

// readRest reads what a picture can do without: members' figures, marks, orders, and keys that belong to nothing. These
// are the keys before, between and after the two prefixes that readOnce has read.
func (r *Reader) readRest(ctx context.Context, p *Picture) error {
	from, end := r.Layout.Root(), clientv3.GetPrefixRangeEnd(r.Layout.Root())
	for _, upTo := range []string{r.Layout.Group(), r.Layout.Shards(), end} {
		if err := r.between(ctx, from, upTo, p.view.Revision, p.takeRest); err != nil {
			return fmt.Errorf("read the app's other keys: %w", err)
		}
		from = clientv3.GetPrefixRangeEnd(upTo)
	}
	return nil
}

// takeRest adds a key that is neither of the group nor of a shard to the picture.
func (p *Picture) takeRest(kv *mvccpb.KeyValue) {
	switch key := p.layout.Parse(string(kv.Key)); key.Kind {
	case keys.Config, keys.Source: // other requests read these
	case keys.Deallocation, keys.FetchOrder, keys.RebalanceOrder, keys.Load: // any value is right
	case keys.Deed:
		if _, err := deed.Decode(kv.Value); err != nil {
			p.bad(kv)
		}
	case keys.AcceptOrder:
		if _, err := record.DecodeAccept(kv.Value); err != nil {
			p.bad(kv)
		}
	case keys.Alone:
		if _, err := claims.DecodeAlone(kv.Value); err != nil {
			p.bad(kv)
		}
	case keys.Lives:
		if _, err := claims.DecodeLives(kv.Value); err != nil {
			p.bad(kv)
		}
	case keys.Deaths:
		if _, err := claims.DecodeDeaths(kv.Value); err != nil {
			p.bad(kv)
		}
	case keys.Stats:
		f, err := claims.DecodeFigures(kv.Value)
		if err != nil {
			p.bad(kv)
			return
		}
		if p.waiting += f.WaitingForBudget; kv.Lease == 0 {
			p.figures = append(p.figures, key.ID)
		}
	default:
		p.bad(kv)
	}
}

// Group reads nothing but the members.
func (r *Reader) Group(ctx context.Context) (*membership.View, error) {
	group, err := r.groupKeys(ctx)
	if err != nil {
		return nil, err
	}
	return membership.NewView(r.Layout.Root(), r.Shards, group.Kvs, group.Header.Revision), nil
}

func (r *Reader) groupKeys(ctx context.Context) (*clientv3.GetResponse, error) {
	group, err := r.page(ctx, r.Layout.Group(), clientv3.GetPrefixRangeEnd(r.Layout.Group()), 0, 0)
	if err != nil {
		return nil, fmt.Errorf("read the members: %w", err)
	}
	return group, nil
}

// Source reads nothing but the source's record. It returns a zero record if there is none.
func (r *Reader) Source(ctx context.Context) (record.Source, error) {
	resp, err := r.page(ctx, r.Layout.Source(), "", 0, 0)
	if err != nil {
		return record.Source{}, fmt.Errorf("read the source's record: %w", err)
	}
	return decodeSource(resp.Kvs)
}

func decodeSource(found []*mvccpb.KeyValue) (noted record.Source, err error) {
	for _, kv := range found {
		if noted, err = record.DecodeSource(kv.Value); err != nil {
			return record.Source{}, fmt.Errorf("key %q is not understood: %w", kv.Key, err)
		}
	}
	return noted, nil
}

// Exists reports whether etcd has any key of the app.
func (r *Reader) Exists(ctx context.Context) (bool, error) {
	first, err := r.first(ctx, r.Layout.Root(), clientv3.GetPrefixRangeEnd(r.Layout.Root()))
	if err != nil {
		return false, fmt.Errorf("look for the app: %w", err)
	}
	return first != nil, nil
}

// Apps lists the apps below a prefix, sorted by name, whichever app the Reader is for. It begins with the name from, or
// with the first app if that is empty, and lists at most limit apps. Each costs a request for one key. If a request
// fails, it returns the apps that it has found so far, and the error.
func (r *Reader) Apps(ctx context.Context, prefix, from string, limit int) ([]string, error) {
	apps := []string{}
	for app, err := range r.EachApp(ctx, prefix, from) {
		if err != nil {
			return apps, err
		}
		if apps = append(apps, app); len(apps) >= limit {
			break
		}
	}
	return apps, nil
}
