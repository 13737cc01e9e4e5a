package drm

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
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
	source   sourceRecord
	revision int64
	corrupt  []string // keys that are not understood
	strays   []string // keys below another shard than their id belongs to; they are ignored
}

type claimSeen struct {
	claims.Record
	token int64
	lease int64
}

// pageSize is the most keys of one request.
const pageSize = 2000

// read makes a picture: group, source, catalogue and claims, all at one revision.
func (r *reader) read(ctx context.Context) (*picture, error) {
	p := &picture{entries: map[string]catalogue.Entry{}, claims: map[string]claimSeen{}}
	group, err := r.page(ctx, r.layout.Group(), clientv3.GetPrefixRangeEnd(r.layout.Group()), 0, 0)
	if err != nil {
		return nil, fmt.Errorf("read the members: %w", err)
	}
	p.revision = group.Header.Revision
	p.view = membership.NewView(r.layout, r.config.Shards, group.Kvs, p.revision)
	p.corrupt = append(p.corrupt, p.view.Corrupt...)
	source, err := r.page(ctx, r.layout.Source(), "", p.revision, 0)
	if err != nil {
		return nil, fmt.Errorf("read the source's outcome: %w", err)
	}
	if len(source.Kvs) > 0 && json.Unmarshal(source.Kvs[0].Value, &p.source) != nil {
		p.source = sourceRecord{}
		p.corrupt = append(p.corrupt, r.layout.Source())
	}
	if err := r.each(ctx, r.layout.Shards(), p.revision, p.take(r.layout, r.config.Shards)); err != nil {
		return nil, fmt.Errorf("read resources and claims: %w", err)
	}
	return p, nil
}

// take sorts a key of a shard into the picture.
func (p *picture) take(layout keys.Layout, shards int) func(*mvccpb.KeyValue) {
	return func(kv *mvccpb.KeyValue) {
		key := layout.Parse(string(kv.Key))
		if key.Kind != keys.Foreign && key.Number != shard.Of(key.ID, shards) {
			p.strays = append(p.strays, string(kv.Key))
			return
		}
		var err error
		switch key.Kind {
		case keys.Resource:
			var e catalogue.Entry
			if e, err = catalogue.Decode(kv.Value); err == nil {
				p.entries[key.ID] = e
			}
		case keys.Claim:
			var c claims.Record
			if c, err = claims.Decode(kv.Value); err == nil {
				p.claims[key.ID] = claimSeen{c, kv.CreateRevision, kv.Lease}
			}
		default:
			err = ErrNotFound
		}
		if err != nil {
			p.corrupt = append(p.corrupt, string(kv.Key))
		}
	}
}

// each calls f for all keys below a prefix at a revision, page by page.
func (r *reader) each(ctx context.Context, prefix string, revision int64, f func(*mvccpb.KeyValue)) error {
	key, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
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
	return resp, withUnreachable(ctx, err)
}

// assignment tells of one resource of the picture.
func (p *picture) assignment(id string, shards int) Assignment {
	n := shard.Of(id, shards)
	return assignmentOf(id, n, p.view, p.claims[id])
}

func assignmentOf(id string, n int, view *membership.View, c claimSeen) Assignment {
	a := Assignment{Resource: id, Shard: n, Expected: view.Owner(n), State: Unassigned}
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
		case f.Unassigned && a.State != Unassigned:
		case f.Failed && a.State != Failed:
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

// members lists the picture's members by id.
func (p *picture) members() []MemberInfo {
	shards := map[string]int{}
	for _, owner := range p.view.Owners() {
		shards[owner]++
	}
	resources := map[string]int{}
	for _, c := range p.claims {
		resources[c.Member]++
	}
	all := make([]MemberInfo, 0, len(p.view.Members))
	for id, m := range p.view.Members {
		all = append(all, MemberInfo{
			ID: id, State: string(p.view.StateOf(id)), Weight: m.Weight, Slots: m.Slots, Address: m.Address,
			Version: m.Version, Started: m.Started, Shards: shards[id], Resources: resources[id],
		})
	}
	slices.SortFunc(all, func(a, b MemberInfo) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// status sums the picture up.
func (p *picture) status(app string, shards int) Status {
	s := Status{
		App: app, Members: len(p.view.Members), Coordinator: p.view.Coordinator.ID, Revision: p.revision,
		Source: SourceStatus{
			LastSuccess: p.source.LastSuccess, LastAttempt: p.source.LastAttempt,
			Resources: p.source.Resources, Error: p.source.Error,
			Held: p.source.Held, TooLarge: len(p.source.Rejected),
		},
	}
	for id, e := range p.entries {
		if !e.Wanted() {
			continue
		}
		s.Resources++
		switch a := p.assignment(id, shards); {
		case a.State == Unassigned:
			s.Unassigned++
		default:
			if a.State == Active {
				s.Active++
			} else if a.State == Failed {
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
	a, wanted, err := r.look(ctx, id)
	if err != nil {
		return a, err
	}
	if !wanted && a.Token == 0 {
		return a, fmt.Errorf("resource %q: %w", id, ErrNotFound)
	}
	return a, nil
}

// look reads one resource's keys and the view.
func (r *reader) look(ctx context.Context, id string) (a Assignment, wanted bool, err error) {
	n := shard.Of(id, r.config.Shards)
	asking, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	txn, err := r.client.Txn(asking).Then(
		clientv3.OpGet(r.layout.Resource(n, id)),
		clientv3.OpGet(r.layout.Claim(n, id)),
		clientv3.OpGet(r.layout.Group(), clientv3.WithPrefix()),
	).Commit()
	if err != nil {
		return a, false, fmt.Errorf("look up %q: %w", id, withUnreachable(ctx, err))
	}
	view := membership.NewView(r.layout, r.config.Shards, txn.Responses[2].GetResponseRange().Kvs, txn.Header.Revision)
	p := picture{view: view, entries: map[string]catalogue.Entry{}, claims: map[string]claimSeen{}}
	for _, resp := range txn.Responses[:2] {
		for _, kv := range resp.GetResponseRange().Kvs {
			p.take(r.layout, r.config.Shards)(kv)
		}
	}
	e, has := p.entries[id]
	return p.assignment(id, r.config.Shards), has && e.Wanted(), nil
}
