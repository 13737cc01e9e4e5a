package picture

import (
	"context"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/etcd"
)

const (
	scanShards = 4       // how many shards a scan begins to read with one request
	scanBytes  = 2 << 20 // about how many bytes of catalogue entries such a request reads
)

// cursor goes through consecutive keys at one revision, page by page.
type cursor struct {
	r        *Reader
	revision int64
	kvs      []*mvccpb.KeyValue // read, and not taken yet
	from     string             // the keys after kvs begin here; "": there are none
	end      string             // and end before this one
	size     *sizer             // of the values; nil: they are small
}

// fits says how many keys may be read at once if their values are to have about so many bytes.
func (c *cursor) fits(bytes int) int {
	if c.size == nil {
		return pageSize
	}
	return c.size.fit(bytes)
}

// took takes over a page that was read with a limit.
func (c *cursor) took(kvs []*mvccpb.KeyValue, limit int) {
	c.kvs, c.from = kvs, ""
	if len(kvs) == limit {
		c.from = string(kvs[limit-1].Key) + "\x00"
	}
	if c.size != nil {
		c.size.tookAll(kvs)
	}
}

// peek returns the next key, which is nil at the end.
func (c *cursor) peek(ctx context.Context) (*mvccpb.KeyValue, error) {
	if len(c.kvs) == 0 && c.from != "" {
		limit := c.fits(partBytes)
		resp, err := c.r.page(ctx, c.from, c.end, c.revision, int64(limit))
		if err != nil {
			return nil, err
		}
		c.took(resp.Kvs, limit)
	}
	if len(c.kvs) == 0 {
		return nil, nil
	}
	return c.kvs[0], nil
}

func (c *cursor) pop() { c.kvs[0], c.kvs = nil, c.kvs[1:] }

// scan gives p all keys below shards/, shard by shard, as they are at the revision of p's view. It goes through the
// claims and the catalogue of a shard side by side, and calls done after all keys of a resource, so that the caller
// need not keep them. done may be nil.
func (r *Reader) scan(ctx context.Context, p *Picture, done func(id string) error) error {
	var size sizer
	jobs := (r.Shards + scanShards - 1) / scanShards
	shard := 0
	for begun, err := range ahead(ctx, jobs, func(ctx context.Context, n int) ([][2]*cursor, error) {
		return r.beginShards(ctx, n*scanShards, min((n+1)*scanShards, r.Shards), p.view.Revision, &size)
	}) {
		if err != nil {
			return err
		}
		for _, one := range begun {
			if err := r.scanShard(ctx, shard, one[0], one[1], p, done); err != nil {
				return err
			}
			shard++
		}
	}
	return nil
}

// beginShards reads the first pages of the shards from one up to another one: of the keys before the catalogue, and
// from there up to the next shard. So nothing below shards/ is left out.
func (r *Reader) beginShards(ctx context.Context, from, upTo int, revision int64, size *sizer) ([][2]*cursor, error) {
	found := make([][2]*cursor, upTo-from)
	var gets []clientv3.Op
	var limits []int
	for i := range found {
		n := from + i
		start, end := r.Layout.Shard(n), r.Layout.Shard(n+1)
		if n == 0 {
			start = r.Layout.Shards()
		}
		if n == r.Shards-1 {
			end = clientv3.GetPrefixRangeEnd(r.Layout.Shards())
		}
		split := r.Layout.Resources(n)
		found[i] = [2]*cursor{
			{r: r, revision: revision, end: split},
			{r: r, revision: revision, end: end, size: size},
		}
		for at, key := range []string{start, split} {
			c := found[i][at]
			limit := c.fits(scanBytes / len(found))
			limits = append(limits, limit)
			gets = append(gets, clientv3.OpGet(key, clientv3.WithRange(c.end),
				clientv3.WithRev(revision), clientv3.WithLimit(int64(limit))))
		}
	}
	asking, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	pages, _, err := r.getAll(asking, gets...)
	if err != nil {
		return nil, etcd.Unreachable(ctx, err)
	}
	for i, kvs := range pages {
		found[i/2][i%2].took(kvs, limits[i])
	}
	return found, nil
}

func (r *Reader) scanShard(
	ctx context.Context, n int, first, second *cursor, p *Picture, done func(id string) error,
) error {
	claims, resources := r.Layout.Claims(n), r.Layout.Resources(n)
	for {
		a, err := first.peek(ctx)
		if err != nil {
			return err
		}
		b, err := second.peek(ctx)
		if err != nil {
			return err
		}
		if a == nil && b == nil {
			return nil
		}
		one, isClaim := below(claims, a)
		other, isEntry := below(resources, b)
		switch {
		case a != nil && !isClaim: // such as a summary, which comes before the claims
			p.take(a)
			first.pop()
			continue
		case b != nil && !isEntry:
			p.take(b)
			second.pop()
			continue
		}
		taken := b
		if isClaim && (!isEntry || one <= other) {
			taken = a
			p.take(a)
			first.pop()
		}
		if isEntry && (!isClaim || other <= one) {
			p.take(b)
			second.pop()
		}
		if done != nil {
			if err := done(r.Layout.Parse(string(taken.Key)).ID); err != nil {
				return err
			}
		}
	}
}

// below returns what follows a prefix in a key.
func below(prefix string, kv *mvccpb.KeyValue) (rest string, is bool) {
	if kv == nil {
		return "", false
	}
	return strings.CutPrefix(string(kv.Key), prefix)
}
