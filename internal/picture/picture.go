package picture

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/record"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// Picture is an app at one revision. It does not change once it is read; share it freely.
type Picture struct {
	layout  keys.Layout
	view    *membership.View
	entries map[string]catalogue.Entry
	claims  map[string]claim
	sums    map[claimGroup]claims.Summary
	source  record.Source
	corrupt []badKey // keys that cannot be decoded, or that belong to nothing
	strays  []string // keys in another shard than that of their id; members ignore them
	figures []string // the members whose figures never expire
	waiting int      // how many resources wait for a budget, by the figures of their members

	quarantined map[string]bool // the resources of which there is a record of quarantine

	badEntries, badClaims map[string]bool // the resources whose catalogue entry, or claim, cannot be decoded

	// Of resources that were forgotten, because there may be a million of them:
	counted Status      // how many there were
	found   []Violation // what was wrong with them
}

// claim is a claim's key.
type claim struct {
	claims.Record
	token int64 // its create revision
	lease int64
}

// claimGroup names the claims of one shard on one lease, which may have a summary.
type claimGroup struct {
	shard int
	lease int64
}

// badKey is a key whose value cannot be decoded, or that belongs to nothing.
type badKey struct {
	name  string
	key   keys.Key // the name, parsed
	token int64    // its create revision
}

func newPicture(layout keys.Layout, view *membership.View) *Picture {
	return &Picture{
		layout: layout, view: view,
		entries: map[string]catalogue.Entry{}, claims: map[string]claim{}, sums: map[claimGroup]claims.Summary{},
		quarantined: map[string]bool{},
		badEntries:  map[string]bool{}, badClaims: map[string]bool{},
	}
}

// errForeign is the error of a key that belongs to nothing.
var errForeign = errors.New("the key belongs to nothing")

// take adds a key of a shard to the picture. A shard's summaries must come before its claims, as they do in the order
// of keys.
func (p *Picture) take(kv *mvccpb.KeyValue) {
	key := p.layout.Parse(string(kv.Key))
	if key.Kind != keys.Foreign && key.Number != key.Home(p.view.Shards) {
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
			c = p.sums[claimGroup{key.Number, kv.Lease}].Of(c, kv.ModRevision)
			p.claims[key.ID] = claim{c, kv.CreateRevision, kv.Lease}
		}
	case keys.Summary:
		var s claims.Summary
		if s, err = claims.DecodeSummaryOf(key, kv); err == nil {
			p.sums[claimGroup{key.Number, key.Lease}] = s
		}
	case keys.Trail:
		_, err = claims.DecodeTrail(kv.Value)
	case keys.Quarantine:
		if _, err = claims.DecodeQuarantine(kv.Value); err == nil {
			p.quarantined[key.ID] = true
		}
	case keys.Retry: // the key is the order: any value is right
	default:
		err = errForeign
	}
	if err != nil {
		p.bad(kv)
	}
}

// bad adds a bad key to the picture.
func (p *Picture) bad(kv *mvccpb.KeyValue) {
	b := badKey{name: string(kv.Key), key: p.layout.Parse(string(kv.Key)), token: kv.CreateRevision}
	p.corrupt = append(p.corrupt, b)
	switch b.key.Kind {
	case keys.Resource:
		p.badEntries[b.key.ID] = true
	case keys.Claim:
		p.badClaims[b.key.ID] = true
	default:
	}
}

// awaits says whether a resource waits for the return of the member that it belongs to.
func (p *Picture) awaits(a Assignment) bool {
	_, awaited := p.view.Awaited(a.Expected)
	return awaited
}

// Assignments lists the resources that are wanted, or that somebody still has a claim on, sorted by id. It never
// returns nil.
func (p *Picture) Assignments(f Filter) []Assignment {
	all := []Assignment{}
	add := func(id string) {
		if a := p.assignment(id); f.takes(&a) {
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

// Resource is an entry of the catalogue.
type Resource struct {
	ID         string
	Data       json.RawMessage
	Shard      int
	FromSource bool // the last fetch had it
	Allocated  bool // somebody allocated it
	Suspended  bool // nobody handles it: it was deallocated, and the source may have it; or see Suspension
	// Suspension says who has suspended it; nil: no operator has.
	Suspension *catalogue.Suspension
}

// Resources lists the catalogue, sorted by id. It never returns nil.
func (p *Picture) Resources() []Resource {
	all := make([]Resource, 0, len(p.entries))
	for id, e := range p.entries {
		all = append(all, Resource{
			ID: id, Data: e.Data, Shard: shard.Of(id, p.view.Shards),
			FromSource: e.FromSource, Allocated: e.Allocated, Suspended: e.Suspended,
			Suspension: e.Suspension,
		})
	}
	slices.SortFunc(all, func(a, b Resource) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Status is the summary of a picture. Its numbers of resources count wanted ones only.
type Status struct {
	Members     int
	Resources   int
	Active      int
	Failed      int
	Unassigned  int
	NoRoom      int // of Unassigned: their owners are full
	Awaited     int // of Unassigned: their members have stopped, and are expected back
	Misplaced   int // another member than the owner has the claim
	Quarantined int // resources that are left alone, since members have died of them
	Suspended   int // resources that an operator has suspended; Resources does not count them
	// Suspensions has the first of these by id, at most mostSuspensions.
	Suspensions []Suspended
	Coordinator string
	Drains      []Drain
	Orders      []Standing
	Unready     []Unready // the members that say that they are not ready, sorted by id
	Source      record.Source
	// WaitingForBudget is how many resources wait until a rate allows their Handle, by their members' own figures. It
	// is known only after ReadAll.
	WaitingForBudget int
	Schemas          string // what SchemasOf says
	Names            Names
	Corrupt          int // keys that cannot be decoded, or are in the wrong shard; complete only after ReadAll
	Revision         int64
}

// Status sums up the picture.
func (p *Picture) Status() Status {
	s := Status{
		Members: len(p.view.Members), Coordinator: p.view.Coordinator.ID, Drains: drains(p.view), Source: p.source,
		Orders:  standing(p.view),
		Unready: unready(p.view), Corrupt: len(p.corrupt) + len(p.strays), Revision: p.view.Revision,
		WaitingForBudget: p.waiting, Schemas: SchemasOf(p.view),
	}
	s.Resources, s.Active, s.Failed, s.Unassigned = p.counted.Resources, p.counted.Active, p.counted.Failed,
		p.counted.Unassigned
	s.NoRoom, s.Awaited, s.Misplaced, s.Quarantined = p.counted.NoRoom, p.counted.Awaited, p.counted.Misplaced,
		p.counted.Quarantined
	s.Names = p.counted.Names
	s.Suspended, s.Suspensions = p.counted.Suspended, slices.Clone(p.counted.Suspensions)
	for id, e := range p.entries {
		p.count(&s, id, e)
	}
	return s
}

// forget removes a resource from the picture.
func (p *Picture) forget(id string) {
	delete(p.entries, id)
	delete(p.claims, id)
	delete(p.badEntries, id)
	delete(p.badClaims, id)
}

// count counts a resource, if it is wanted, or an operator has suspended it.
func (p *Picture) count(s *Status, id string, e catalogue.Entry) {
	if e.Suspension != nil {
		s.addSuspended(Suspended{id, *e.Suspension})
	}
	if !e.Wanted() {
		return
	}
	s.Resources++
	a := p.assignment(id)
	s.Names.note(p, a)
	if a.State == StateUnassigned {
		s.Unassigned++
		switch {
		case p.awaits(a):
			s.Awaited++
		case p.view.DeclinesAny(a.Expected):
			s.NoRoom++
		}
		return
	}
	switch a.State {
	case claims.Active:
		s.Active++
	case claims.Failed:
		s.Failed++
	case claims.Quarantined:
		s.Quarantined++
	}
	if a.Member != a.Expected {
		s.Misplaced++
	}
}
