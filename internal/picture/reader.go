package picture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/record"
	"github.com/distributed-resource-manager/drm/membership"
)

// ErrNotFound says that the catalogue does not want a resource, and that nobody has a claim on it.
var ErrNotFound = errors.New("not found")

// Reader reads one app. It has no state of its own, so it may be copied, and its methods are safe for concurrent use.
// Errors of requests that etcd did not answer in time match etcd.ErrUnreachable; those of a context that ended do not.
type Reader struct {
	Client *clientv3.Client
	Layout keys.Layout // of the app
	// Shards is the app's number of shards. It may be 0 where nobody knows it yet: then only Exists, Apps, Source,
	// VerifyConfig and FollowOwners may be called.
	Shards  int
	Timeout time.Duration // of each request
}

// maxReads bounds how often a picture is begun anew because etcd compacted its revision meanwhile.
const maxReads = 10

// Read reads members, source, catalogue and claims, all at one revision. Where etcd compacts that revision before all
// pages were read, it begins anew.
func (r *Reader) Read(ctx context.Context) (*Picture, error) {
	return retry(func() (*Picture, error) { return r.readOnce(ctx) })
}

// ReadAll is Read, and reads everything else below the app's prefix too: only so does the picture know of keys that
// belong to nothing.
func (r *Reader) ReadAll(ctx context.Context) (*Picture, error) {
	return retry(func() (*Picture, error) {
		p, err := r.readOnce(ctx)
		if err == nil {
			err = r.readRest(ctx, p)
		}
		return p, err
	})
}

// retry calls read again while its revision was compacted before it was done.
func retry[T any](read func() (T, error)) (found T, err error) {
	for range maxReads {
		if found, err = read(); !errors.Is(err, rpctypes.ErrCompacted) {
			break
		}
	}
	return found, err
}

func (r *Reader) readOnce(ctx context.Context) (*Picture, error) {
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
		return nil, fmt.Errorf("read the source's outcome: %w", err)
	}
	for _, kv := range source.Kvs {
		if p.source, err = record.DecodeSource(kv.Value); err != nil {
			p.bad(kv)
		}
	}
	if err := r.each(ctx, r.Layout.Shards(), p.view.Revision, p.take); err != nil {
		return nil, fmt.Errorf("read resources and claims: %w", err)
	}
	return p, nil
}

// readRest reads what a picture can do without: members' figures, marks, orders, and keys that belong to nothing.
func (r *Reader) readRest(ctx context.Context, p *Picture) error {
	// The rest lies around the two prefixes that were read, in the order of keys.
	from, end := r.Layout.Root(), clientv3.GetPrefixRangeEnd(r.Layout.Root())
	for _, upTo := range []string{r.Layout.Group(), r.Layout.Shards(), end} {
		if err := r.between(ctx, from, upTo, p.view.Revision, p.takeRest); err != nil {
			return fmt.Errorf("read the app's other keys: %w", err)
		}
		from = clientv3.GetPrefixRangeEnd(upTo)
	}
	return nil
}

// takeRest sorts a key that is neither of the group nor of a shard into the picture.
func (p *Picture) takeRest(kv *mvccpb.KeyValue) {
	switch key := p.layout.Parse(string(kv.Key)); key.Kind {
	case keys.Config, keys.Source: // were read before
	case keys.Deallocation, keys.FetchOrder: // their values mean nothing
	case keys.AcceptOrder:
		if _, err := record.DecodeAccept(kv.Value); err != nil {
			p.bad(kv)
		}
	case keys.Stats:
		if _, err := claims.DecodeFigures(kv.Value); err != nil {
			p.bad(kv)
		} else if kv.Lease == 0 {
			p.figures = append(p.figures, key.ID)
		}
	default:
		p.bad(kv)
	}
}

// Group reads the members, and nothing else.
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

// Source reads the record of the source's fetches, and nothing else. It is zero where there is none.
func (r *Reader) Source(ctx context.Context) (record.Source, error) {
	resp, err := r.page(ctx, r.Layout.Source(), "", 0, 0)
	if err != nil {
		return record.Source{}, fmt.Errorf("read the source's outcome: %w", err)
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

// Exists reports whether there is any key of the app.
func (r *Reader) Exists(ctx context.Context) (bool, error) {
	first, err := r.page(ctx, r.Layout.Root(), clientv3.GetPrefixRangeEnd(r.Layout.Root()), 0, 1)
	if err != nil {
		return false, fmt.Errorf("look for the app: %w", err)
	}
	return len(first.Kvs) > 0, nil
}

// Apps lists the apps below a prefix by name, whichever the Reader's own app is: those from the given name on, or all
// where that is empty, limit of them at most. Each costs a request for one key. Where a request fails, it returns
// what it has found so far besides the error.
func (r *Reader) Apps(ctx context.Context, prefix, from string, limit int) ([]string, error) {
	all := keys.Apps(prefix)
	key, end := all+keys.Escape(from), clientv3.GetPrefixRangeEnd(all)
	apps := []string{}
	for len(apps) < limit {
		resp, err := r.page(ctx, key, end, 0, 1)
		if err != nil {
			return apps, fmt.Errorf("list the apps: %w", err)
		}
		if len(resp.Kvs) == 0 {
			break
		}
		name, _, app := strings.Cut(strings.TrimPrefix(string(resp.Kvs[0].Key), all), "/")
		if id, err := keys.Unescape(name); app && err == nil {
			apps = append(apps, id)
		}
		key = all + name + "0" // the character after the slash: on to the next app
	}
	return apps, nil
}
