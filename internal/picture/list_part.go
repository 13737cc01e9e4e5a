package picture

import (
	"cmp"
	"context"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

const (
	firstPart = 512   // about how many resources the first part has, so that the first row comes soon
	wholePart = 12000 // about how many the other parts have,
	ofShard   = 8     // but no fewer of each shard, on average, since a request costs etcd something for each range
	partOps   = 96    // how many ranges one request reads, at most; etcd takes 128 operations by default
	partBytes = 2 << 20
	fewNeed   = 0.3 // if a greater share of the resources needs its value, all values of a part are read
)

// openSpan is a span of which nothing was read yet.
type openSpan struct {
	keys.Span
	sample []string // escaped ids of the span, in order: those before upTo that one shard has
	upTo   string   // "": up to the end of the span
	known  bool     // sample and upTo are set
}

// cut takes the first part off the span, of about so many ids of a shard, and returns it and what remains.
func (s openSpan) cut(ids int) (first keys.Span, rest []openSpan) {
	at := s.upTo
	if len(s.sample) > ids {
		at = keys.Between(s.sample[ids-1], s.sample[ids])
	}
	if at == "" {
		return s.Span, nil
	}
	first, others := s.Cut(at)
	for _, o := range others {
		one := openSpan{Span: o, upTo: s.upTo, known: s.upTo == "" || o.From < s.upTo}
		from, _ := slices.BinarySearch(s.sample, o.From)
		end := len(s.sample)
		if o.End != "" {
			end, _ = slices.BinarySearch(s.sample, o.End)
			if o.End <= s.upTo {
				one.upTo = ""
			}
		}
		one.sample = s.sample[from:max(from, end)]
		rest = append(rest, one)
	}
	return first, rest
}

// next is the index of the span that may have the next id.
func (l *listing) next() int {
	least := 0
	for n, s := range l.spans {
		if s.Least < l.spans[least].Least {
			least = n
		}
	}
	return least
}

// readPart reads a part of the span that may have the next id.
func (l *listing) readPart(ctx context.Context) error {
	n := l.next()
	s := l.spans[n]
	if !s.known {
		if err := l.readSample(ctx, &s); err != nil {
			return err
		}
	}
	size, values := l.plan()
	ids := max(1, size/len(l.shards))
	first, rest := s.cut(ids)
	l.spans = append(slices.Delete(l.spans, n, n+1), rest...)

	before := len(l.read)
	if err := l.readSpan(ctx, first, ids, values); err != nil {
		return err
	}
	l.summed = true
	need := 0
	for at := range l.read[before:] {
		if l.needs(&l.read[before+at]) {
			need++
		}
	}
	if read := len(l.read) - before; read > 0 {
		l.needing = float64(need) / float64(read)
	}
	slices.SortFunc(l.read, func(a, b item) int { return cmp.Compare(a.id, b.id) })
	l.part = min(l.part*growth, max(wholePart, ofShard*len(l.shards)))
	return nil
}

// plan says about how many resources the next part should have, and whether all values are read with it.
func (l *listing) plan() (resources int, values bool) {
	average := l.size.bytes()
	if !l.entries || average == 0 || l.needing < fewNeed {
		return l.part, false
	}
	size := min(l.part, max(partBytes/average, len(l.shards)))
	return size, size*average <= 2*partBytes
}

// readSample reads the ids that one shard has in a span: all of them, or a first part.
func (l *listing) readSample(ctx context.Context, s *openSpan) error {
	limit := max(1000, 2*wholePart/len(l.shards))
	n := l.shards[0]
	var gets []clientv3.Op
	for _, prefix := range []string{l.r.Layout.Claims(n), l.r.Layout.Resources(n)} {
		if l.claims && prefix == l.r.Layout.Claims(n) || l.entries && prefix == l.r.Layout.Resources(n) {
			gets = append(gets, l.get(prefix, s.Span, limit, clientv3.WithKeysOnly()))
		}
	}
	asking, cancel := context.WithTimeout(ctx, l.r.Timeout)
	defer cancel()
	found, _, err := l.r.getAll(asking, gets...)
	if err != nil {
		return etcd.Unreachable(ctx, err)
	}
	s.known, s.upTo = true, ""
	for i, kvs := range found {
		prefix := len(gets[i].KeyBytes()) - len(s.From)
		for _, kv := range kvs {
			s.sample = append(s.sample, string(kv.Key[prefix:]))
		}
		if len(kvs) == limit {
			if last := s.sample[len(s.sample)-1]; s.upTo == "" || last < s.upTo {
				s.upTo = last
			}
		}
	}
	slices.Sort(s.sample)
	s.sample = slices.Compact(s.sample)
	if s.upTo != "" {
		end, _ := slices.BinarySearch(s.sample, s.upTo)
		s.sample = s.sample[:end]
	}
	return nil
}

// get reads a span of the ids below a prefix.
func (l *listing) get(prefix string, s keys.Span, limit int, opts ...clientv3.OpOption) clientv3.Op {
	end := clientv3.GetPrefixRangeEnd(prefix)
	if s.End != "" {
		end = prefix + s.End
	}
	opts = append(opts, clientv3.WithRange(end), clientv3.WithRev(l.view.Revision), clientv3.WithLimit(int64(limit)))
	return clientv3.OpGet(prefix+s.From, opts...)
}

// partKeys is what a request has read of one shard.
type partKeys struct{ sums, claims, entries []*mvccpb.KeyValue }

// readSpan reads a span of all shards, each of which has about so many ids of it.
func (l *listing) readSpan(ctx context.Context, s keys.Span, ids int, values bool) error {
	rest := l.shards
	if values { // whether the values are as large as the others were, one shard shows
		bytes := 0
		one, err := l.readShards(ctx, rest[:1], s, ids, values)
		if err != nil {
			return err
		}
		for _, kv := range one[0].entries {
			bytes += len(kv.Value)
		}
		l.takePart(rest[:1], one, values)
		rest = rest[1:]
		values = bytes*(len(rest)+1) <= 4*partBytes
	}
	per := max(1, partOps/l.opsOfShard())
	jobs := (len(rest) + per - 1) / per
	batch := func(n int) []int { return rest[n*per : min((n+1)*per, len(rest))] }
	n := 0
	for found, err := range ahead(ctx, jobs, func(ctx context.Context, n int) ([]partKeys, error) {
		return l.readShards(ctx, batch(n), s, ids, values)
	}) {
		if err != nil {
			return err
		}
		l.takePart(batch(n), found, values)
		n++
	}
	return nil
}

func (l *listing) opsOfShard() int {
	n := 0
	for _, reads := range []bool{l.claims && !l.summed, l.claims, l.entries} {
		if reads {
			n++
		}
	}
	return n
}

// readShards reads a span of some shards with one request, if none of them has far more of it than it should.
func (l *listing) readShards(
	ctx context.Context, shards []int, s keys.Span, ids int, values bool,
) ([]partKeys, error) {
	var entryOpts []clientv3.OpOption
	if !values {
		entryOpts = append(entryOpts, clientv3.WithKeysOnly())
	}
	found := make([]partKeys, len(shards))
	var gets []clientv3.Op
	var into []*[]*mvccpb.KeyValue
	limit := 8*ids + 64
	for i, n := range shards {
		one := &found[i]
		if l.claims && !l.summed {
			gets = append(gets, l.get(l.r.Layout.Summaries(n), keys.Span{}, limit))
			into = append(into, &one.sums)
		}
		if l.claims {
			gets, into = append(gets, l.get(l.r.Layout.Claims(n), s, limit)), append(into, &one.claims)
		}
		if l.entries {
			gets = append(gets, l.get(l.r.Layout.Resources(n), s, limit, entryOpts...))
			into = append(into, &one.entries)
		}
	}
	asking, cancel := context.WithTimeout(ctx, l.r.Timeout)
	all, _, err := l.r.getAll(asking, gets...)
	cancel()
	if err != nil {
		return nil, etcd.Unreachable(ctx, err)
	}
	for i, kvs := range all {
		*into[i] = kvs
		if len(kvs) < limit {
			continue
		}
		op := gets[i]
		add := func(kv *mvccpb.KeyValue) { *into[i] = append(*into[i], kv) }
		from := string(kvs[limit-1].Key) + "\x00"
		if err := l.r.between(ctx, from, string(op.RangeBytes()), l.view.Revision, add, onlyKeys(op)...); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// onlyKeys returns the options with which the rest of a range is read as its beginning was.
func onlyKeys(op clientv3.Op) []clientv3.OpOption {
	if op.IsKeysOnly() {
		return []clientv3.OpOption{clientv3.WithKeysOnly()}
	}
	return nil
}

// takePart takes what a request has read of some shards.
func (l *listing) takePart(shards []int, found []partKeys, values bool) {
	for i, n := range shards {
		for _, kv := range found[i].sums {
			key := l.r.Layout.Parse(string(kv.Key))
			if s, err := claims.DecodeSummaryOf(key, kv); key.Kind == keys.Summary && err == nil {
				l.sums[claimGroup{n, key.Lease}] = s
			}
		}
		if values {
			l.size.tookAll(found[i].entries)
		}
		l.take(n, found[i].claims, found[i].entries, values)
	}
}

// readValues reads the catalogue entries of the first resources that need them.
func (l *listing) readValues(ctx context.Context, items []item) error {
	var some []*item
	for at := range items {
		if i := &items[at]; !i.asked && l.needs(i) {
			if some = append(some, i); len(some) == l.size.fit(partBytes) {
				break
			}
		}
	}
	jobs := (len(some) + partOps - 1) / partOps
	batch := func(n int) []*item { return some[n*partOps : min((n+1)*partOps, len(some))] }
	n := 0
	for found, err := range ahead(ctx, jobs, func(ctx context.Context, n int) ([][]*mvccpb.KeyValue, error) {
		var gets []clientv3.Op
		for _, i := range batch(n) {
			key := l.r.Layout.Resource(i.shard, i.id)
			gets = append(gets, clientv3.OpGet(key, clientv3.WithRev(l.view.Revision)))
		}
		asking, cancel := context.WithTimeout(ctx, l.r.Timeout)
		defer cancel()
		found, _, err := l.r.getAll(asking, gets...)
		return found, etcd.Unreachable(ctx, err)
	}) {
		if err != nil {
			return err
		}
		for at, i := range batch(n) {
			i.asked = true
			for _, kv := range found[at] {
				i.value = kv
			}
		}
		n++
	}
	values := make([]*mvccpb.KeyValue, 0, len(some))
	for _, i := range some {
		if i.value != nil {
			values = append(values, i.value)
		}
	}
	l.size.tookAll(values)
	return nil
}

// decode returns the catalogue entry; nil if there is none, or none that can be decoded.
func (i *item) decode() *catalogue.Entry {
	if i.value == nil {
		return nil
	}
	e, err := catalogue.DecodeOf(i.id, i.value.Value)
	if err != nil {
		return nil
	}
	return &e
}
