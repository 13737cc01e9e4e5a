package picture

import (
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// OwnerChange says that another member than before, or nobody, has the claim of a resource.
type OwnerChange struct {
	Resource string
	Before   string // the member that had the claim; empty: nobody
	Member   string // the member that has it now; empty: nobody
	Token    int64  // of the new claim, or of the claim that ended
	Revision int64  // etcd's revision when the claim changed, or when that was noticed after a gap
	Fell     bool   // the token is not greater than that of an earlier claim: a violation
}

// forgetAfter is how long the highest token of a resource is remembered after nobody wants the resource and nobody has
// a claim on it. Tokens fall if etcd went back in time, or was replaced. Any answer of etcd shows that, and an hour is
// far longer than an answer takes.
const forgetAfter = time.Hour

// owner is the member that has a claim.
type owner struct {
	member string
	token  int64
}

// trail is what is known of a resource.
type trail struct {
	owner   owner                       // its token is 0 if nobody has the claim
	highest int64                       // the highest token of any claim so far
	entry   bool                        // the catalogue has the resource
	left    time.Time                   // since when it has neither an entry nor an owner; zero: it has one
	listed  struct{ claim, entry bool } // what the list that Reset goes through has of it
}

// ownerFollower turns changes of claims into changes of owners. One goroutine calls its methods.
type ownerFollower struct {
	layout keys.Layout
	tell   func(OwnerChange)
	now    func() time.Time
	known  bool              // the first list was taken over
	trails map[string]*trail // by resource id
}

func newOwnerFollower(layout keys.Layout, tell func(OwnerChange)) *ownerFollower {
	return &ownerFollower{layout: layout, tell: tell, now: time.Now, trails: map[string]*trail{}}
}

// Reset implements follow.Sink. It reports no changes for the first list.
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

// put notes that etcd has a key.
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

// claimed notes that etcd has a claim, and reports a change of the owner.
func (o *ownerFollower) claimed(id string, t *trail, kv *mvccpb.KeyValue, revision int64) {
	before := t.owner
	if before.token == kv.CreateRevision { // only the claim's state changed
		return
	}
	r, err := claims.Decode(kv.Value)
	if err != nil { // nobody knows whose claim it is
		o.gone(id, revision)
		return
	}
	t.owner = owner{r.Member, kv.CreateRevision}
	fell := t.owner.token <= t.highest
	t.highest = max(t.highest, t.owner.token)
	if o.known {
		o.tell(OwnerChange{
			Resource: id, Before: before.member, Member: t.owner.member, Token: t.owner.token,
			Revision: revision, Fell: fell,
		})
	}
}

// gone notes that nobody has the claim of a resource, and reports the change if somebody had it.
func (o *ownerFollower) gone(id string, revision int64) {
	t := o.trails[id]
	before := t.owner
	if before.token == 0 {
		return
	}
	t.owner = owner{}
	o.tell(OwnerChange{Resource: id, Before: before.member, Token: before.token, Revision: revision})
}

// noteEnd notes since when a resource has neither an entry nor an owner, and forgets the resource after forgetAfter.
// The lists that come every few minutes call it for all resources.
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
