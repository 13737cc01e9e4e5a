package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
)

const (
	// firstPage and mostPage are how many keys a request reads: few at first, and more while they are small.
	firstPage = 64
	mostPage  = 2000
	// pageBytes is about how large the answer to a request is.
	pageBytes = 1 << 20
	// readAhead is how many ranges of keys are read before their turn.
	readAhead = 3
	// mostBegun is how often a dump is begun, at most, because etcd compacted its revision.
	mostBegun = 10
	// heldBack is how much of a dump is kept before anything is written, so that a dump whose revision was compacted
	// can be begun anew.
	heldBack = 256 << 10
)

// CompactedError says that etcd has compacted the revision of a dump after a part of it was written.
type CompactedError struct {
	Revision int64
	Keys     int // how many keys were read by then
}

func (e *CompactedError) Error() string {
	return fmt.Sprintf("etcd has compacted revision %d while it was read, after %d keys: what was written is of no "+
		"use; begin anew, and if it happens again have etcd keep more (--auto-compaction-retention)",
		e.Revision, e.Keys)
}

// Dump writes all keys of the app, as they are at one revision, to w. h says what the dump's header is to have;
// Revision, Shards, Schema and Created are filled in. With h.Data the resources' data are part of it. It returns the
// header and the footer as they were written.
//
// Errors: appconfig.ErrNoApp; *CompactedError; an error that matches etcd.ErrUnreachable; those of w.
func (a *App) Dump(ctx context.Context, h Header, w io.Writer) (Header, Footer, error) {
	for begun := 1; ; begun++ {
		d := dump{App: a, header: h, w: w, sum: sha256.New()}
		err := d.run(ctx)
		if !errors.Is(err, rpctypes.ErrCompacted) {
			return d.header, d.footer, err
		}
		if d.written || begun == mostBegun {
			return d.header, d.footer, &CompactedError{d.header.Revision, d.footer.Keys}
		}
	}
}

// dump is a dump in progress.
type dump struct {
	*App

	header  Header
	footer  Footer
	w       io.Writer
	sum     hash.Hash
	pending bytes.Buffer // what is to be written
	written bool
	perKey  atomic.Int64 // how many bytes a key has, about; 0: not known
}

func (d *dump) run(ctx context.Context) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	if err := encode(&d.pending, d.header); err != nil {
		return err
	}
	group, gctx := errgroup.WithContext(ctx)
	ranges := make(chan chan []*mvccpb.KeyValue, readAhead)
	group.Go(func() error {
		defer close(ranges)
		for _, s := range d.spans() {
			pages := make(chan []*mvccpb.KeyValue, 1)
			select {
			case ranges <- pages:
			case <-gctx.Done():
				return gctx.Err()
			}
			group.Go(func() error {
				defer close(pages)
				return d.read(gctx, s, pages)
			})
		}
		return nil
	})
	err := d.write(ranges)
	if err != nil { // the readers end
		group.Go(func() error { return err })
		for pages := range ranges {
			for range pages {
			}
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return d.end()
}

// begin reads the config, and chooses the revision.
func (d *dump) begin(ctx context.Context) error {
	resp, err := d.get(ctx, d.Layout.Config())
	if err != nil {
		return fmt.Errorf("read the app's config: %w", err)
	}
	h := &d.header
	h.Version, h.Revision = Version, resp.Header.Revision
	if len(resp.Kvs) == 0 {
		any, err := d.any(ctx, d.besides())
		if err == nil && !any {
			err = appconfig.ErrNoApp
		}
		return err
	}
	h.Created = resp.Kvs[0].CreateRevision
	if config, err := appconfig.Decode(resp.Kvs[0].Value); err == nil {
		h.Shards, h.Schema = config.Shards, appconfig.Schema
	}
	return nil
}

// spans are ranges which have all keys of the app, in the order of the keys. Each of most has one shard: with a limit,
// etcd counts the rest of a range at each page.
func (d *dump) spans() []span {
	from, end := d.Layout.Root(), clientv3.GetPrefixRangeEnd(d.Layout.Root())
	var all []span
	for n := range d.header.Shards {
		next := d.Layout.Shard(n)
		all = append(all, span{from, next})
		from = next
	}
	return append(all, span{from, end})
}

// read reads a range of keys page by page.
func (d *dump) read(ctx context.Context, s span, pages chan<- []*mvccpb.KeyValue) error {
	for {
		limit := int64(firstPage)
		if per := d.perKey.Load(); per > 0 {
			limit = min(max(pageBytes/per, 1), mostPage)
		}
		resp, err := d.get(ctx, s.from, clientv3.WithRange(s.end), clientv3.WithRev(d.header.Revision),
			clientv3.WithLimit(limit))
		if err != nil {
			return fmt.Errorf("read the app: %w", err)
		}
		if len(resp.Kvs) == 0 {
			return nil
		}
		bytes := 0
		for _, kv := range resp.Kvs {
			bytes += len(kv.Key) + len(kv.Value)
		}
		d.perKey.Store(int64(bytes/len(resp.Kvs)) + 1)
		select {
		case pages <- resp.Kvs:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !resp.More {
			return nil
		}
		s.from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// write writes the keys in their order.
func (d *dump) write(ranges <-chan chan []*mvccpb.KeyValue) error {
	for pages := range ranges {
		for page := range pages {
			for _, kv := range page {
				d.footer.count(d.Layout.Parse(string(kv.Key)).Kind)
				if err := encode(&d.pending, d.lineOf(kv, d.header.Data)); err != nil {
					return err
				}
				if d.pending.Len() > heldBack {
					if err := d.flush(); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

func (d *dump) flush() error {
	_, _ = d.sum.Write(d.pending.Bytes()) // a hash never fails
	d.written = true
	if _, err := d.w.Write(d.pending.Bytes()); err != nil {
		return fmt.Errorf("write the dump: %w", err)
	}
	d.pending.Reset()
	return nil
}

// end writes the footer.
func (d *dump) end() error {
	if err := d.flush(); err != nil {
		return err
	}
	d.footer.End, d.footer.SHA256 = true, hex.EncodeToString(d.sum.Sum(nil))
	if err := encode(&d.pending, d.footer); err != nil {
		return err
	}
	return d.flush()
}
