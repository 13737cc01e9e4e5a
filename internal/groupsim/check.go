package groupsim

import (
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
)

// judge checks what happens.
type judge struct {
	w    *world
	over bool
	late bool // what is written now was sent a while ago

	reloaded []time.Duration // by shard: when its load has changed; 0: never

	placed []placed        // by shard: how it was last moved for balance, or by an operator
	spent  []spent         // what was moved for balance a short time ago
	onWay  map[int]sending // by shard: what the coordinator has sent, and nobody has begun to handle
	away   map[string]away // by member that has stopped with Rejoin
	churn  int             // how often anything but a single member's return has changed
}

// placed says when a shard was moved for balance, and by whom.
type placed struct {
	by *member
	at time.Duration
}

// spent is load that was moved for balance.
type spent struct {
	at   time.Duration
	load int64
}

// sending is load on its way.
type sending struct {
	term int64 // of the coordinator that has sent it
	to   string
	life int
	load int64
	at   time.Duration
}

// away is what was so when a member stopped with Rejoin.
type away struct {
	churn  int
	slots  int // how many it had
	owners []string
}

func (j *judge) init(w *world) {
	j.w, j.placed = w, make([]placed, w.plan.Shards)
	j.reloaded = make([]time.Duration, w.plan.Shards)
	j.onWay, j.away = map[int]sending{}, map[string]away{}
}

// viewOf makes the view of what the store has; shuffled: of the keys in another order.
func (w *world) viewOf(shuffled bool) *membership.View {
	prefix := w.layout.Group()
	var kvs []*mvccpb.KeyValue
	for _, key := range w.store.span([]byte(prefix), []byte(prefix+"\xff")) {
		kvs = append(kvs, w.store.kvs[key])
	}
	if shuffled {
		w.Rand.Shuffle(len(kvs), func(a, b int) { kvs[a], kvs[b] = kvs[b], kvs[a] })
	}
	return w.group.View(kvs, w.store.revision)
}

// handled notes that a member has begun to handle a shard.
func (j *judge) handled(n int, m *member) {
	if s, sent := j.onWay[n]; sent && s.to == m.id {
		delete(j.onWay, n)
	}
}

// revision checks a new view, and what has changed.
func (j *judge) revision(c change) {
	w := j.w
	is := w.view()
	was := w.views[len(w.views)-2]
	if w.Rand.IntN(20) == 0 && !slices.Equal(is.Owners(), w.viewOf(true).Owners()) {
		w.Failf("the view depends on the order of the keys")
	}
	if len(is.Corrupt) > 0 {
		w.Failf("a key cannot be read: %v", is.Corrupt)
	}
	if is.DrainsIgnored() {
		w.count(Ignored)
	}
	if is.HasOlder() {
		w.count(Mixed)
	}
	j.owners(is)
	j.transitions(was, is, c)
	j.rejoins(was, is, c)
	j.forget(is)
	if c.by != nil && c.by.publishes {
		j.writes(was, is, c)
	}
	for n, owner := range is.Owners() {
		if owner != was.Owner(n) {
			w.stays[n] = append(w.stays[n], Stay{owner, w.Now})
		}
	}
	if w.Trace {
		for _, was := range c.keys {
			value := "–"
			if kv := w.store.kvs[was.key]; kv != nil {
				value = string(kv.Value)
			}
			w.Tracef("rev %d: %s %s", is.Revision, strings.TrimPrefix(was.key, w.layout.Group()), value)
		}
		for n, owner := range is.Owners() {
			if owner != was.Owner(n) {
				w.Tracef("rev %d: shard %d: %q → %q", is.Revision, n, was.Owner(n), owner)
			}
		}
	}
}

// owners checks that each shard belongs to a member that may have it.
func (j *judge) owners(v *membership.View) {
	for n, owner := range v.Owners() {
		if owner == "" {
			for id := range v.Members {
				if may(v, id, n) && hasSlots(v, id) && !(v.HasOlder() && (awaited(v, id) || v.Ordered(id))) {
					j.w.Failf("rev %d: shard %d belongs to nobody, though %s is there", v.Revision, n, id)
				}
			}
			continue
		}
		if v.HasOlder() {
			continue
		}
		if !may(v, owner, n) {
			j.w.Failf("rev %d: shard %d belongs to %s, which must not own it", v.Revision, n, owner)
		}
		if p, pinned := v.Pins[n]; pinned && owner != p.Member && takes(v, p.Member, n) {
			j.w.Failf("rev %d: shard %d belongs to %s, and is pinned to %s", v.Revision, n, owner, p.Member)
		}
		if takes(v, owner, n) {
			continue
		}
		for id := range candidates(v) {
			if takes(v, id, n) && hasSlots(v, id) {
				j.w.Failf("rev %d: shard %d belongs to %s, which takes it only if nobody else does, but %s does",
					v.Revision, n, owner, id)
			}
		}
	}
}

// candidates are the members that are there, or are expected back.
func candidates(v *membership.View) map[string]bool {
	all := map[string]bool{}
	for id := range v.Members {
		all[id] = true
	}
	for id := range v.Reservations {
		all[id] = true
	}
	return all
}

// works says whether a member is there and can work.
func works(v *membership.View, id string) bool {
	m := v.Members[id]
	return m.State == membership.Active || m.State == membership.Unready && v.UnreadyIgnored()
}

// awaited says whether a member's shards wait for it.
func awaited(v *membership.View, id string) bool {
	_, reserved := v.Reservations[id]
	m, live := v.Members[id]
	return reserved && v.WeightOf(id) > 0 && !(v.Ordered(id) && !v.DrainsIgnored()) &&
		(!live || m.State == membership.Leaving || m.State == membership.Joining)
}

// guided says whether there is, or soon will be, a coordinator that lets go of what drained members keep.
func guided(v *membership.View) bool {
	if v.Coordinator.CreateRevision != 0 {
		m, live := v.Members[v.Coordinator.ID]
		return live && m.Schema >= membership.Schema
	}
	for _, m := range v.Members {
		if m.HasJoined() && m.Schema >= membership.Schema {
			return true
		}
	}
	return false
}

func in(set []bool, n int) bool { return n < len(set) && set[n] }

// may says whether a member may own a shard at all.
func may(v *membership.View, id string, n int) bool {
	if awaited(v, id) {
		return true
	}
	if !works(v, id) {
		return false
	}
	keeps, restricted := keepsOnly(v, id)
	return !restricted || guided(v) && in(keeps, n)
}

// keepsOnly says whether an order, or a weight of 0, lets a member own nothing but some shards, and which ones.
func keepsOnly(v *membership.View, id string) (keeps []bool, restricted bool) {
	if drain, drained := v.Drains[id]; drained && !v.DrainsIgnored() {
		return drain.Keeps, true
	}
	return v.Weights[id].Keeps, v.WeightOf(id) == 0
}

// takes says whether a member takes a shard that others could have.
func takes(v *membership.View, id string, n int) bool {
	switch {
	case !may(v, id, n):
		return false
	case awaited(v, id) && !works(v, id):
		keeps := v.Reservations[id].Keeps
		return keeps == nil || in(keeps, n)
	case v.Declines(id, n):
		return false
	}
	cordon, cordoned := v.Cordons[id]
	_, restricted := keepsOnly(v, id)
	return restricted || !cordoned || in(cordon.Keeps, n)
}

// hasSlots says whether a member is on the ring, if it can work.
func hasSlots(v *membership.View, id string) bool {
	if awaited(v, id) {
		return v.HasBeenHere(id)
	}
	return v.Members[id].Holds() > 0 && v.HasItsSlots(id)
}

// holds returns how many slots of the ring a member has.
func holds(v *membership.View, id string) (slots int) {
	if !awaited(v, id) {
		return v.Members[id].Holds()
	}
	for _, member := range v.Slots {
		if member == id {
			slots++
		}
	}
	for _, b := range v.Blocks {
		if b.Member == id {
			slots += b.Used
		}
	}
	return slots
}

// transitions checks that each shard that changes its owner does so for a reason that concerns it.
func (j *judge) transitions(was, is *membership.View, c change) {
	if was.HasOlder() || is.HasOlder() {
		return
	}
	if was.DrainsIgnored() != is.DrainsIgnored() || was.UnreadyIgnored() != is.UnreadyIgnored() ||
		guided(was) != guided(is) {
		return
	}
	for _, b := range is.Blocks {
		// The ring has grown by slots that are dead, or by a member that takes nothing (see below).
		if b.From >= was.Reserved().Length() && (b.Used < b.Slots || unfit(is, b.Member) != "") {
			return
		}
	}
	for i := was.Reserved().Length(); i < len(is.Slots); i++ {
		// The ring has grown by a member that takes nothing since the very moment in which it joined: the coordinator
		// did not know, and so could not keep the shards where they were.
		if unfit(is, is.Slots[i]) != "" {
			return
		}
	}
	for n, owner := range is.Owners() {
		from := was.Owner(n)
		if owner == from || from == "" || owner == "" || j.isNamed(c, n) {
			continue
		}
		gained := takes(is, owner, n) && !takes(was, owner, n) || may(is, owner, n) && !may(was, owner, n) ||
			hasSlots(is, owner) && !hasSlots(was, owner) || holds(is, owner) > holds(was, owner)
		lost := takes(was, from, n) && !takes(is, from, n) || may(was, from, n) && !may(is, from, n) ||
			hasSlots(was, from) && !hasSlots(is, from) || holds(is, from) < holds(was, from)
		if !gained && !lost {
			j.w.Failf("rev %d: shard %d goes from %s to %s, and neither has come, gone, or is under another order",
				is.Revision, n, from, owner)
		}
	}
}

// isNamed says whether a key that names a shard has changed.
func (j *judge) isNamed(c change, n int) bool {
	for _, was := range c.keys {
		key := j.w.layout.Parse(was.key)
		if (key.Kind == keys.Exception || key.Kind == keys.Pin) && key.Number == n {
			return true
		}
	}
	return false
}

// rejoins checks that a member which is back in time after a stop with Rejoin finds its shards.
func (j *judge) rejoins(was, is *membership.View, c change) {
	if !j.isReturn(c) || len(j.away) > 1 {
		j.churn++
	}
	for id := range is.Reservations {
		_, before := was.Reservations[id]
		if !before && is.Members[id].State == membership.Leaving && was.Members[id].State == membership.Active {
			for n, owner := range is.Owners() {
				if from := was.Owner(n); from != owner && (from != id || in(is.Reservations[id].Keeps, n)) &&
					!is.HasOlder() && takes(is, from, n) {
					j.w.Failf("rev %d: %s stops with Rejoin, and shard %d goes from %s to %s",
						is.Revision, id, n, from, owner)
				}
			}
			j.away[id] = away{j.churn, holds(was, id), is.Owners()}
		}
	}
	defer func() { // what one that comes back finds, such as a new pin, another one cannot have seen
		if len(is.Reservations) < len(was.Reservations) && !slices.Equal(was.Owners(), is.Owners()) {
			j.churn++
		}
	}()
	for id := range was.Reservations {
		a, gone := j.away[id]
		if _, still := is.Reservations[id]; still || !gone {
			continue
		}
		delete(j.away, id)
		if is.Members[id].State != membership.Active {
			j.churn++
		}
		if a.churn != j.churn || is.Members[id].State != membership.Active || is.HasOlder() ||
			holds(is, id) != a.slots || is.WeightOf(id) == 0 { // it has another weight since
			continue
		}
		j.w.count(Rejoined)
		for n, owner := range is.Owners() {
			// It may have got a shard that it did not know of when it stopped.
			if before := a.owners[n]; owner != before && (before == id || owner != id) {
				j.w.Failf("rev %d: %s is back in time, and shard %d goes from %s to %s",
					is.Revision, id, n, before, owner)
			}
		}
	}
}

// isReturn says whether a change is no more than what a member that stops with Rejoin, and comes back, brings about.
func (j *judge) isReturn(c change) bool {
	for _, was := range c.keys {
		switch key := j.w.layout.Parse(was.key); key.Kind {
		case keys.Member, keys.Prepared:
			if _, gone := j.away[key.ID]; !gone {
				return false
			}
		case keys.Slot, keys.Block: // written as it was
			if was.kv == nil || string(was.kv.Value) != string(j.w.store.kvs[was.key].Value) {
				return false
			}
		case keys.Reservation, keys.Coordinator, keys.Schema, keys.Load:
		default:
			return false
		}
	}
	return true
}

// named returns the member with that id.
func (w *world) named(id string) *member {
	for _, m := range w.members {
		if m.id == id {
			return m
		}
	}
	panic("groupsim: no member " + id)
}

// forget drops what is over.
func (j *judge) forget(is *membership.View) {
	for n, s := range j.onWay {
		if is.Owner(n) != s.to || j.w.Now-s.at >= unheard || j.w.named(s.to).life != s.life {
			delete(j.onWay, n)
		}
	}
}
