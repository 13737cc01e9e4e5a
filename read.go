package drm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/record"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// reader looks at an app's state in etcd. It serves the Client, and what of it a Manager offers.
type reader struct {
	client  *clientv3.Client
	layout  keys.Layout
	config  appconfig.Config
	timeout time.Duration // of each request
}

// picture is an app at one revision.
type picture struct {
	view     *membership.View
	entries  map[string]catalogue.Entry
	claims   map[string]claimSeen
	sums     map[groupOfClaims]claims.Summary
	source   record.Source
	revision int64
	corrupt  []badKey // keys that are not understood
	strays   []string // keys below another shard than their id belongs to; they are ignored
	figures  []string // the members whose figures never expire

	badEntries, badClaims map[string]bool // the resources whose catalogue entry, or claim, is not understood
}

func newPicture() *picture {
	return &picture{
		entries: map[string]catalogue.Entry{}, claims: map[string]claimSeen{}, sums: map[groupOfClaims]claims.Summary{},
		badEntries: map[string]bool{}, badClaims: map[string]bool{},
	}
}

// badKey is a key that is not understood: a corrupt value, or a foreign key.
type badKey struct {
	name  string
	key   keys.Key // what it should be
	token int64    // its create revision
}

type claimSeen struct {
	claims.Record
	token int64
	lease int64
}

// groupOfClaims are the claims of a shard on a lease, which may have a summary.
type groupOfClaims struct {
	shard int
	lease int64
}

// pageSize is the most keys of one request.
const pageSize = 2000

// maxReads bounds how often a picture is begun anew because what it is of was compacted meanwhile.
const maxReads = 10

// read makes a picture: group, source, catalogue and claims, all at one revision. Where etcd compacts that before all
// pages of it were read, it begins anew.
func (r *reader) read(ctx context.Context) (*picture, error) {
	return r.retry(func() (*picture, error) { return r.readOnce(ctx) })
}

// readAll is read, with everything else below the app's prefix.
func (r *reader) readAll(ctx context.Context) (*picture, error) {
	return r.retry(func() (*picture, error) {
		p, err := r.readOnce(ctx)
		if err == nil {
			err = r.readRest(ctx, p)
		}
		return p, err
	})
}

func (r *reader) retry(read func() (*picture, error)) (p *picture, err error) {
	for range maxReads {
		if p, err = read(); !errors.Is(err, rpctypes.ErrCompacted) {
			break
		}
	}
	return p, err
}

func (r *reader) readOnce(ctx context.Context) (*picture, error) {
	p := newPicture()
	group, err := r.page(ctx, r.layout.Group(), clientv3.GetPrefixRangeEnd(r.layout.Group()), 0, 0)
	if err != nil {
		return nil, fmt.Errorf("read the members: %w", err)
	}
	p.revision = group.Header.Revision
	p.view = membership.NewView(r.layout.Root(), r.config.Shards, group.Kvs, p.revision)
	for _, kv := range group.Kvs {
		if _, found := slices.BinarySearch(p.view.Corrupt, string(kv.Key)); found {
			p.bad(r.layout, kv)
		}
	}
	source, err := r.page(ctx, r.layout.Source(), "", p.revision, 0)
	if err != nil {
		return nil, fmt.Errorf("read the source's outcome: %w", err)
	}
	for _, kv := range source.Kvs {
		if p.source, err = record.DecodeSource(kv.Value); err != nil {
			p.bad(r.layout, kv)
		}
	}
	if err := r.each(ctx, r.layout.Shards(), p.revision, p.take(r.layout, r.config.Shards)); err != nil {
		return nil, fmt.Errorf("read resources and claims: %w", err)
	}
	return p, nil
}

// take sorts a key of a shard into the picture. A shard's summaries must come before its claims, as they do in the order of keys.
func (p *picture) take(layout keys.Layout, shards int) func(*mvccpb.KeyValue) {
	return func(kv *mvccpb.KeyValue) {
		key := layout.Parse(string(kv.Key))
		if key.Kind != keys.Foreign && key.Number != key.Home(shards) {
			p.strays = append(p.strays, string(kv.Key))
			return
		}
		var err error
		switch key.Kind {
		case keys.Resource:
			var e catalogue.Entry
			if e, err = catalogue.DecodeOf(key.ID, kv.Value); err == nil {
				p.entries[key.ID] = e
			}
		case keys.Claim:
			var c claims.Record
			if c, err = claims.Decode(kv.Value); err == nil {
				c = p.sums[groupOfClaims{key.Number, kv.Lease}].Of(c, kv.ModRevision)
				p.claims[key.ID] = claimSeen{c, kv.CreateRevision, kv.Lease}
			}
		case keys.Summary:
			var s claims.Summary
			if s, err = claims.DecodeSummaryOf(key, kv); err == nil {
				p.sums[groupOfClaims{key.Number, key.Lease}] = s
			}
		default:
			err = ErrNotFound
		}
		if err != nil {
			p.bad(layout, kv)
		}
	}
}

func (p *picture) bad(layout keys.Layout, kv *mvccpb.KeyValue) {
	b := badKey{name: string(kv.Key), key: layout.Parse(string(kv.Key)), token: kv.CreateRevision}
	p.corrupt = append(p.corrupt, b)
	switch b.key.Kind {
	case keys.Resource:
		p.badEntries[b.key.ID] = true
	case keys.Claim:
		p.badClaims[b.key.ID] = true
	default:
	}
}

// readRest reads what a picture does not need to have: members' figures, marks, and keys that are nobody's.
func (r *reader) readRest(ctx context.Context, p *picture) error {
	take := func(kv *mvccpb.KeyValue) {
		switch key := r.layout.Parse(string(kv.Key)); key.Kind {
		case keys.Config, keys.Source, keys.Deallocation, keys.FetchOrder: // the first two were read; the values of the others mean nothing
		case keys.AcceptOrder:
			if _, err := record.DecodeAccept(kv.Value); err != nil {
				p.bad(r.layout, kv)
			}
		case keys.Stats:
			if _, err := claims.DecodeFigures(kv.Value); err != nil {
				p.bad(r.layout, kv)
			} else if kv.Lease == 0 {
				p.figures = append(p.figures, key.ID)
			}
		default:
			p.bad(r.layout, kv)
		}
	}
	// What lies around the two prefixes that were read, in the order of keys.
	from := r.layout.Root()
	for _, prefix := range []string{r.layout.Group(), r.layout.Shards()} {
		if err := r.between(ctx, from, prefix, p.revision, take); err != nil {
			return fmt.Errorf("read the app's other keys: %w", err)
		}
		from = clientv3.GetPrefixRangeEnd(prefix)
	}
	if err := r.between(ctx, from, clientv3.GetPrefixRangeEnd(r.layout.Root()), p.revision, take); err != nil {
		return fmt.Errorf("read the app's other keys: %w", err)
	}
	return nil
}

// each calls f for all keys below a prefix at a revision, page by page.
func (r *reader) each(ctx context.Context, prefix string, revision int64, f func(*mvccpb.KeyValue)) error {
	return r.between(ctx, prefix, clientv3.GetPrefixRangeEnd(prefix), revision, f)
}

// between calls f for all keys from one up to another at a revision, page by page.
func (r *reader) between(ctx context.Context, key, end string, revision int64, f func(*mvccpb.KeyValue)) error {
	for {
		resp, err := r.page(ctx, key, end, revision, pageSize)
		if err != nil {
			return err
		}
		for _, kv := range resp.Kvs {
			f(kv)
		}
		if !resp.More || len(resp.Kvs) == 0 {
			return nil
		}
		key = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// page reads one key (end empty) or a range of them. Revision 0 is the latest, and limit 0 none.
func (r *reader) page(ctx context.Context, key, end string, revision, limit int64) (*clientv3.GetResponse, error) {
	asking, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	opts := []clientv3.OpOption{clientv3.WithRev(revision), clientv3.WithLimit(limit)}
	if end != "" {
		opts = append(opts, clientv3.WithRange(end))
	}
	resp, err := r.client.Get(asking, key, opts...)
	return resp, etcd.Unreachable(ctx, err)
}

// assignment tells of one resource of the picture.
func (p *picture) assignment(id string, shards int) Assignment {
	n := shard.Of(id, shards)
	a := assignmentOf(id, n, p.view, p.claims[id])
	if a.Token == 0 && p.badClaims[id] {
		a.Error = "its claim is not understood: whoever put it has to delete it"
	}
	return a
}

func assignmentOf(id string, n int, view *membership.View, c claimSeen) Assignment {
	a := Assignment{Resource: id, Shard: n, Expected: view.Owner(n), State: StateUnassigned}
	if c.token == 0 {
		switch {
		case len(view.Members) == 0:
			a.Error = "there is no live member"
		case a.Expected == "":
			a.Error = "no live member is active"
		default:
			a.Error = fmt.Sprintf("%s has not claimed it yet", a.Expected)
		}
		return a
	}
	a.Member, a.State, a.Token, a.Since, a.Error = c.Member, State(c.State), c.token, c.Since, c.Error
	return a
}

// assignments lists the picture's wanted resources, and those that somebody still has a claim on, by id.
func (p *picture) assignments(shards int, f AssignmentFilter) []Assignment {
	all := []Assignment{}
	add := func(id string) {
		a := p.assignment(id, shards)
		switch {
		case f.Member != "" && a.Member != f.Member:
		case f.Unassigned && a.State != StateUnassigned:
		case f.Failed && a.State != StateFailed:
		default:
			all = append(all, a)
		}
	}
	for id, e := range p.entries {
		if _, claimed := p.claims[id]; e.Wanted() || claimed {
			add(id)
		}
	}
	for id := range p.claims {
		if _, known := p.entries[id]; !known {
			add(id)
		}
	}
	slices.SortFunc(all, func(a, b Assignment) int { return cmp.Compare(a.Resource, b.Resource) })
	return all
}

// resources lists the picture's catalogue by id.
func (p *picture) resources(shards int) []CatalogueEntry {
	all := make([]CatalogueEntry, 0, len(p.entries))
	for id, e := range p.entries {
		all = append(all, CatalogueEntry{
			Resource: Resource{ID: id, Data: e.Data}, Shard: shard.Of(id, shards),
			FromSource: e.FromSource, Allocated: e.Allocated, Suspended: e.Suspended,
		})
	}
	slices.SortFunc(all, func(a, b CatalogueEntry) int { return cmp.Compare(a.Resource.ID, b.Resource.ID) })
	return all
}

// status sums the picture up.
func (p *picture) status(app string, shards int) Status {
	s := Status{
		App: app, Drains: drains(p.view), Members: len(p.view.Members), Coordinator: p.view.Coordinator.ID, Revision: p.revision,
		Source:  statusOf(p.source),
		Corrupt: len(p.corrupt) + len(p.strays),
	}
	for id, e := range p.entries {
		if !e.Wanted() {
			continue
		}
		s.Resources++
		switch a := p.assignment(id, shards); {
		case a.State == StateUnassigned:
			s.Unassigned++
		default:
			if a.State == StateActive {
				s.Active++
			} else if a.State == StateFailed {
				s.Failed++
			}
			if a.Member != a.Expected {
				s.Misplaced++
			}
		}
	}
	return s
}

// lookup tells of one resource. ErrNotFound says that the catalogue does not want it, and nobody has a claim on it.
func (r *reader) lookup(ctx context.Context, id string) (Assignment, error) {
	a, entry, err := r.look(ctx, id)
	if err != nil {
		return a, err
	}
	if a.Token == 0 {
		if err := notWanted(entry); err != nil {
			return a, fmt.Errorf("resource %q: %w", id, err)
		}
	}
	return a, nil
}

// notWanted says why a resource is not to be handled, by its entry, nil where there is none; nil where it is.
func notWanted(entry *catalogue.Entry) error {
	switch {
	case entry == nil:
		return ErrNotFound
	case !entry.Wanted():
		return fmt.Errorf("%w: it was deallocated, and is suspended for as long as its source has it", ErrNotFound)
	default:
		return nil
	}
}

// look reads one resource's keys and the view. The entry is nil where the catalogue has none that is understood.
func (r *reader) look(ctx context.Context, id string) (a Assignment, entry *catalogue.Entry, err error) {
	n := shard.Of(id, r.config.Shards)
	asking, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	found, revision, err := r.getAll(asking,
		clientv3.OpGet(r.layout.Resource(n, id)),
		clientv3.OpGet(r.layout.Summaries(n), clientv3.WithPrefix()),
		clientv3.OpGet(r.layout.Claim(n, id)),
		clientv3.OpGet(r.layout.Group(), clientv3.WithPrefix()),
	)
	if err != nil {
		return a, nil, fmt.Errorf("look up %q: %w", id, etcd.Unreachable(ctx, err))
	}
	p := newPicture()
	p.view = membership.NewView(r.layout.Root(), r.config.Shards, found[3], revision)
	for _, kvs := range found[:3] {
		for _, kv := range kvs {
			p.take(r.layout, r.config.Shards)(kv)
		}
	}
	if e, has := p.entries[id]; has {
		entry = &e
	}
	return p.assignment(id, r.config.Shards), entry, nil
}

// getAll reads several things at one revision: in one transaction, or, where etcd takes fewer operations in one, one after the
// other as of the first.
func (r *reader) getAll(ctx context.Context, gets ...clientv3.Op) (found [][]*mvccpb.KeyValue, revision int64, err error) {
	resp, err := r.client.Txn(ctx).Then(gets...).Commit()
	if err == nil {
		for _, one := range resp.Responses {
			found = append(found, one.GetResponseRange().Kvs)
		}
		return found, resp.Header.Revision, nil
	}
	if !errors.Is(err, rpctypes.ErrTooManyOps) {
		return nil, 0, err
	}
	for _, get := range gets {
		if revision != 0 {
			clientv3.WithRev(revision)(&get)
		}
		resp, err := r.client.Do(ctx, get)
		if err != nil {
			return nil, 0, err
		}
		if revision == 0 {
			revision = resp.Get().Header.Revision
		}
		found = append(found, resp.Get().Kvs)
	}
	return found, revision, nil
}
