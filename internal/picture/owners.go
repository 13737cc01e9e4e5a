package picture

import (
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// OwnerChange tells that a resource has another owner than before.
type OwnerChange struct {
	Resource string
	Before   string // the member that had the claim; empty: nobody
	Member   string // the member that has it; empty: nobody
	Token    int64  // of the new claim, or of the one that ended
	Revision int64  // etcd's, when it changed, or when it was noticed after a gap
	Fell     bool   // the token is not greater than that of an earlier claim: a violation
}

// forgetAfter is how long the highest token of a resource is remembered that nobody wants any more and nobody has a
// claim on. Tokens fall where etcd went back, or was replaced, which any answer of it tells; an hour is far longer
// than one takes.
const forgetAfter = time.Hour

// owner is who has a claim.
type owner struct {
	member string
	token  int64
}

// trail is what is known of a resource.
type trail struct {
	owner   owner     // token 0: nobody
	highest int64     // token of any claim so far
	entry   bool      // the catalogue has it
	left    time.Time // since when it has neither an entry nor an owner; zero: it has
	listed  struct{ claim, entry bool }
}

// ownerFollower turns changes of claims into changes of owners.
type ownerFollower struct {
	layout keys.Layout
	tell   func(OwnerChange)
	now    func() time.Time
	known  bool
	trails map[string]*trail // by resource: those of the catalogue, and forgetAfter for what has left it
}

func newOwnerFollower(layout keys.Layout, tell func(OwnerChange)) *ownerFollower {
	return &ownerFollower{layout: layout, tell: tell, now: time.Now, trails: map[string]*trail{}}
}

// Reset implements follow.Sink. The first list is where it starts from, and is not told.
func (o *ownerFollower) Reset(kvs []*mvccpb.KeyValue, revision int64) {
	for _, t := range o.trails {
		t.listed.claim, t.listed.entry = false, false
	}
	for _, kv := range kvs {
		o.put(kv, revision)
	}
	for id, t := range o.trails {
		if !t.listed.claim {
			o.gone(id, revision)
		}
		t.entry = t.entry && t.listed.entry
		o.noteEnd(id, t)
	}
	o.known = true
}

// Apply implements follow.Sink.
func (o *ownerFollower) Apply(events []*clientv3.Event, _ int64) {
	for _, ev := range events {
		if ev.Type != clientv3.EventTypeDelete {
			o.put(ev.Kv, ev.Kv.ModRevision)
			continue
		}
		key := o.layout.Parse(string(ev.Kv.Key))
		t := o.trails[key.ID]
		switch {
		case t == nil:
		case key.Kind == keys.Claim:
			o.gone(key.ID, ev.Kv.ModRevision)
			o.noteEnd(key.ID, t)
		case key.Kind == keys.Resource:
			t.entry = false
			o.noteEnd(key.ID, t)
		}
	}
}

// put notes a key as it is.
func (o *ownerFollower) put(kv *mvccpb.KeyValue, revision int64) {
	key := o.layout.Parse(string(kv.Key))
	if key.Kind != keys.Claim && key.Kind != keys.Resource {
		return
	}
	t := o.trails[key.ID]
	if t == nil {
		t = &trail{}
		o.trails[key.ID] = t
	}
	if key.Kind == keys.Resource {
		t.entry, t.listed.entry = true, true
	} else {
		t.listed.claim = true
		o.claimed(key.ID, t, kv, revision)
	}
	o.noteEnd(key.ID, t)
}

// claimed notes a claim as it is.
func (o *ownerFollower) claimed(id string, t *trail, kv *mvccpb.KeyValue, revision int64) {
	before := t.owner
	if before.token == kv.CreateRevision { // only its state changed
		return
	}
	r, err := claims.Decode(kv.Value)
	if err != nil { // a claim that is not understood is nobody's that could be named
		o.gone(id, revision)
		return
	}
	t.owner = owner{r.Member, kv.CreateRevision}
	fell := t.owner.token <= t.highest
	t.highest = max(t.highest, t.owner.token)
	if o.known {
		o.tell(OwnerChange{
			Resource: id,
			Before:   before.member,
			Member:   t.owner.member,
			Token:    t.owner.token,
			Revision: revision,
			Fell:     fell,
		})
	}
}

// gone notes that nobody has a claim.
func (o *ownerFollower) gone(id string, revision int64) {
	t := o.trails[id]
	before := t.owner
	if before.token == 0 {
		return
	}
	t.owner = owner{}
	o.tell(OwnerChange{Resource: id, Before: before.member, Token: before.token, Revision: revision})
}

// noteEnd keeps track of since when there is nothing of a resource, and forgets it in the end: at the next list after
// forgetAfter, of which there is one each few minutes.
func (o *ownerFollower) noteEnd(id string, t *trail) {
	switch {
	case t.entry || t.owner.token != 0:
		t.left = time.Time{}
	case t.left.IsZero():
		t.left = o.now()
	case o.now().Sub(t.left) > forgetAfter:
		delete(o.trails, id)
	}
}
