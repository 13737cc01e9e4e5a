package core

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// Rate bounds how often something begins. The zero value is no bound.
type Rate struct {
	PerSecond float64 // how often in a second, in the long run
	Burst     int     // how many may begin at once after a time in which fewer began; at least 1
}

// bounds says whether there is a bound.
func (r Rate) bounds() bool { return r.PerSecond > 0 }

// noteWaitAfter is how long a Handle waits for a budget until the claim's key says so. A resource that waits for less
// costs no write.
const noteWaitAfter = 5 * time.Second

// budgets say when Handle may be called, where rates bound that. Each call spends one token of the member's budget, and
// one of the budget of its resource's key. A resource whose budget has no token waits at a gate, where it keeps neither
// other budgets waiting nor a place of Config.HandleConcurrency.
//
// A token is spent at the moment when the call begins, not when it is queued. Otherwise calls that were allowed one by
// one, and then waited together for a place or for a trail, would begin at once.
//
// Where trails are kept there is a gate before the trail too, which lets resources pass at the same rates. Otherwise
// the trail would list all that waits for a budget, and what it lists is suspected of a death.
type budgets struct {
	rate   Rate  // of the member
	perKey Rate  // of each key in the whole group; zero: there are no keys
	share  share // the part of perKey that this member has

	admit gate // lets the trail list resources
	begin gate // lets Handle be called

	keys    map[string]*budget
	sweepAt int     // how many keys there are when those are dropped that are full again
	free    *budget // of resources without a key: only the member's rate bounds them
	unknown *budget // of all resources whose key nobody could find

	rations map[*resource]*ration
	asks    fifo // resources whose keys must be found before they wait for a budget
	asking  int  // how many keys are being found
	turn    bool // whether it is the turn of calls that need no budget
}

// ration is what the budgets know of a resource of which this member has a claim.
type ration struct {
	budget   *budget       // nil: the key is not known
	gen      uint32        // the seen.dataGen of the data that have the key; 0: the key is not known
	asked    uint32        // the seen.dataGen of the data whose key is being found; 0: none
	admitted bool          // the trail may list the resource for the Handle that waits now
	since    time.Duration // when that Handle began to wait; 0: none waits
}

// budget is what one key may spend, with the resources that wait for it.
type budget struct {
	key      string
	admit    lane
	begin    lane
	admitted int // how many resources are admitted
}

// admits notes that n more resources are admitted. Few are admitted that have not begun, even if nothing begins for a
// while since etcd does not answer. Otherwise all of those would be listed then, before resources of other keys, and
// wait for tokens.
func (b *budgets) admits(k *budget, n int, now time.Duration) {
	k.admitted += n
	b.fill(k)
	b.admit.enlist(&k.admit, now)
}

// fill looks whether as many resources of a key are admitted as may begin in 2 s, which is how long trails may take to
// be written until fewer begin than might.
func (b *budgets) fill(k *budget) {
	l := k.begin.limiter
	k.admit.full = l != nil && k.admitted >= max(l.Burst(), int(2*l.Limit()))
}

// newBudget makes a budget with limiters that limiter makes; nil: without a bound.
func newBudget(key string, limiter func() *rate.Limiter) *budget {
	k := &budget{key: key}
	if limiter != nil {
		k.admit.limiter, k.begin.limiter = limiter(), limiter()
	}
	return k
}

// bar says whether this member may spend nothing of the budget.
func (k *budget) bar(barred bool) { k.admit.barred, k.begin.barred = barred, barred }

// waiting is how many resources wait for the budget.
func (k *budget) waiting() int { return k.admit.waiting() + k.begin.waiting() }

// keysAtOnce is how many keys are being found at once, at most.
const keysAtOnce = 256

// newBudgets returns nil if nothing is bounded.
func newBudgets(cfg *Config) *budgets {
	if !cfg.HandleRate.bounds() && !cfg.KeyRate.bounds() {
		return nil
	}
	b := &budgets{
		rate: cfg.HandleRate, perKey: cfg.KeyRate, keys: map[string]*budget{}, sweepAt: leastKeys,
		free: newBudget("", nil), rations: map[*resource]*ration{},
		admit: gate{id: admitQueue}, begin: gate{id: budgetQueue},
	}
	b.share.grace = cfg.ShareGrace
	if b.rate.bounds() {
		for _, g := range []*gate{&b.admit, &b.begin} {
			g.limiter = rate.NewLimiter(rate.Limit(b.rate.PerSecond), b.rate.Burst)
		}
	}
	return b
}

// leastKeys is how many budgets of keys are kept without a look at whether they are still needed.
const leastKeys = 64

// keyed says whether each resource has a key that has to be found.
func (b *budgets) keyed() bool { return b.perKey.bounds() }

// ration returns the ration of a resource, and makes it if there is none.
func (b *budgets) ration(r *resource) *ration {
	q := b.rations[r]
	if q == nil {
		q = &ration{}
		b.rations[r] = q
	}
	if !b.keyed() {
		q.budget, q.gen = b.free, r.seen.dataGen
	}
	return q
}

// laneOf returns the lane in which a resource waits at a gate; nil if its key is not known.
func (b *budgets) laneOf(g *gate, r *resource) *lane {
	switch q := b.rations[r]; {
	case q == nil || q.budget == nil:
		return nil
	case g == &b.admit:
		return &q.budget.admit
	default:
		return &q.budget.begin
	}
}

// forget drops what is known of a resource whose claim has ended.
func (b *budgets) forget(r *resource, now time.Duration) {
	if b == nil {
		return
	}
	b.dismiss(r, now)
	delete(b.rations, r)
	switch r.queued {
	case keyQueue, admitQueue, budgetQueue:
		r.queued = noQueue
	default:
	}
}

// dismiss notes that a resource does not wait for a Handle any more: the call begins, or is not needed.
func (b *budgets) dismiss(r *resource, now time.Duration) {
	if b == nil {
		return
	}
	if q := b.rations[r]; q != nil {
		b.expel(q, now)
		q.since = 0
	}
}

// expel notes that a resource has begun, or waits for something else again.
func (b *budgets) expel(q *ration, now time.Duration) {
	if q.admitted {
		q.admitted = false
		b.admits(q.budget, -1, now)
	}
}

// awaitKey makes a resource wait until its key is known.
func (b *budgets) awaitKey(r *resource) {
	if r.queued != keyQueue {
		r.queued = keyQueue
		if b.ration(r).asked == 0 {
			b.asks.add(r)
		}
	}
}

// await makes a resource wait at a gate.
func (b *budgets) await(g *gate, r *resource, now time.Duration) {
	if r.queued != g.id {
		g.add(b.laneOf(g, r), r, now)
	}
}

// admitNext lets resources pass the gate before the trail. It does not while nothing may begin: what was admitted then
// would wait for tokens later, listed, and keep what has tokens waiting.
func (c *Core) admitNext() {
	b := c.budgets
	if b == nil || c.halted || c.holdsBack() {
		return
	}
	for r := c.pass(&b.admit); r != nil; r = c.pass(&b.admit) {
		q := b.rations[r]
		q.admitted = true
		b.admits(q.budget, 1, c.now)
		c.reconcile(r)
	}
}

// nextHandle returns the resource whose Handle or Update may begin, and the queue in which it waited; nil if there is
// none.
func (c *Core) nextHandle() (*resource, queueID) {
	if r := c.nextIsolated(); r != nil {
		return r, isolatedQueue
	}
	b := c.budgets
	switch {
	case c.holdsBack():
		return nil, noQueue
	case b == nil:
		return c.handles.pop(), handleQueue
	}
	b.turn = !b.turn // the two take turns, so that neither keeps the other waiting
	if b.turn {
		if r := c.handles.pop(); r != nil {
			return r, handleQueue
		}
	}
	if r := c.pass(&b.begin); r != nil {
		return r, budgetQueue
	}
	return c.handles.pop(), handleQueue
}

// pumpKeys asks for the keys of resources, as far as few enough are being found.
func (c *Core) pumpKeys() {
	b := c.budgets
	if b == nil || c.halted {
		return
	}
	for b.asking < keysAtOnce && b.asks.waiting() > 0 {
		r := b.asks.take()
		q := b.rations[r]
		if r.sh == nil || r.queued != keyQueue || q == nil || q.asked != 0 {
			continue
		}
		if !c.belongsIn(r, keyQueue) {
			r.queued = noQueue
			c.reconcile(r)
			continue
		}
		q.asked = r.seen.dataGen
		b.asking++
		c.emit(Action{Kind: FindKey, Shard: r.sh.number, ID: r.id, Token: int64(q.asked), Data: r.seen.data})
	}
}

// KeyFound answers a FindKey, whose Token was gen: the resource has that key, or none if it is empty. If nobody could
// find the key, found is false: then the resource shares one budget, of the size of a key's, with all others of which
// that is so.
func (c *Core) KeyFound(now time.Duration, number int, id string, gen int64, key string, found bool) {
	b := c.budgets
	r := c.find(now, number, id)
	if b == nil {
		return
	}
	if b.asking = max(b.asking-1, 0); r == nil {
		return
	}
	q := b.rations[r]
	if q == nil || q.asked == 0 || int64(q.asked) != gen {
		return
	}
	b.expel(q, now)
	q.asked, q.gen, q.budget = 0, uint32(gen), b.of(key, found, now)
	if r.queued == keyQueue {
		r.queued = noQueue
	}
	c.reconcile(r)
}

// of returns the budget of a key.
func (b *budgets) of(key string, found bool, now time.Duration) *budget {
	limiter := func() *rate.Limiter { return b.limiter(now) }
	switch {
	case found && key == "":
		return b.free
	case !found:
		if b.unknown == nil {
			b.unknown = newBudget("", limiter)
			b.unknown.bar(b.share.part == 0)
		}
		return b.unknown
	}
	if k := b.keys[key]; k != nil {
		return k
	}
	b.sweep(now)
	k := newBudget(strings.Clone(key), limiter)
	k.bar(b.share.part == 0)
	b.keys[k.key] = k
	return k
}

// limiter makes the limiter of a key that has spent nothing since the share became what it is. Nobody knows what other
// members have spent before.
func (b *budgets) limiter(now time.Duration) *rate.Limiter {
	l := rate.NewLimiter(b.share.limit(b.perKey), b.share.burst(b.perKey))
	l.AllowN(moment(min(b.share.since, now)), l.Burst())
	return l
}

// sweep drops the budgets that nothing waits for and that are full, since new ones would be the same. It looks when
// there are twice as many as it left the last time.
func (b *budgets) sweep(now time.Duration) {
	if len(b.keys) < b.sweepAt {
		return
	}
	used := make(map[*budget]bool, len(b.rations))
	for _, q := range b.rations {
		used[q.budget] = true
	}
	for key, k := range b.keys {
		l := k.begin.limiter
		if k.waiting() == 0 && !used[k] && l.TokensAt(moment(now)) >= float64(l.Burst()) {
			delete(b.keys, key)
		}
	}
	b.sweepAt = max(leastKeys, 2*len(b.keys))
}

// limited returns the budgets that have a bound, in a fixed order.
func (b *budgets) limited(yield func(*budget) bool) {
	for _, key := range slices.Sorted(maps.Keys(b.keys)) {
		if !yield(b.keys[key]) {
			return
		}
	}
	if b.unknown != nil {
		yield(b.unknown)
	}
}

// nextBudget returns when a Handle that waits for a budget may begin, or the share grows; ok is false if nothing waits
// for that.
func (c *Core) nextBudget() (at time.Duration, ok bool) {
	b := c.budgets
	if b == nil || c.halted {
		return 0, false
	}
	earliest := func(t time.Duration) {
		if t > c.now && (!ok || t < at) { // what is due already begins at the next Actions
			at, ok = t, true
		}
	}
	if b.share.growAt != 0 {
		earliest(b.share.growAt)
	}
	if t, waits := b.admit.next(c.now); waits {
		earliest(t)
	}
	if t, waits := b.begin.next(c.now); waits && c.counts.handles < c.cfg.HandleConcurrency {
		earliest(t)
	}
	return at, ok
}

// waitsForBudget says whether the next Handle of a resource waits until a rate allows it.
func (r *resource) waitsForBudget() bool {
	return r.claimed() && r.phase == idle &&
		(r.queued == budgetQueue || r.queued == admitQueue || r.queued == keyQueue)
}

// noteBudget makes the claim's key say that Handle waits for a budget, once it has waited for long.
func (c *Core) noteBudget(r *resource, q *ration) {
	if q.since == 0 {
		q.since = c.now
	}
	switch noteAt := q.since + noteWaitAfter; {
	case c.now < noteAt:
		c.wakeAt(r, noteAt)
	case c.counts.handles >= c.cfg.HandleConcurrency: // it waits for a place, whatever its budget has
		c.wakeAt(r, c.now+noteWaitAfter)
	default:
		c.noteReason(r, c.budgets.reason(q))
	}
}

// reason says what a Handle waits for. It does not tell the key, which may be a value of the resource's data.
func (b *budgets) reason(q *ration) string {
	const says = "Handle waits for its turn: "
	switch k := q.budget; {
	case k == nil:
		return says + "the member does not know its budget yet"
	case k.begin.limiter == nil || k.admit.place == inTurn || k.begin.place == inTurn:
		return fmt.Sprintf(says+"this member may begin %.4g a second, and %d wait", b.rate.PerSecond,
			b.admit.waits+b.begin.waits)
	default:
		return fmt.Sprintf(says+"resources of its key may begin %.4g a second, this member %.4g of these, and %d wait",
			b.perKey.PerSecond, b.perKey.PerSecond*b.share.part, k.waiting())
	}
}

// audit looks for resources that wait for a budget which nothing will look at again. Audit calls it.
func (b *budgets) audit() error {
	if b == nil {
		return nil
	}
	waiting := b.free.waiting()
	for k := range b.limited {
		waiting += k.waiting()
	}
	if counted := b.admit.waits + b.begin.waits; waiting != counted {
		return fmt.Errorf("%d resources wait for budgets, counted %d", waiting, counted)
	}
	admitted := map[*budget]int{}
	for _, q := range b.rations {
		if q.admitted {
			admitted[q.budget]++
		}
	}
	for k := range b.limited {
		if k.admitted != admitted[k] {
			return fmt.Errorf("%d resources of a budget are admitted, counted %d", admitted[k], k.admitted)
		}
	}
	for r, q := range b.rations {
		switch {
		case r.sh == nil || !r.claimed():
			return fmt.Errorf("resource %q has a ration, and no claim", r.id)
		case r.queued == keyQueue && q.asked == 0 && b.asks.waiting() == 0:
			return fmt.Errorf("resource %q: nobody finds its key", r.id)
		case q.budget == nil && (r.queued == admitQueue || r.queued == budgetQueue):
			return fmt.Errorf("resource %q waits for a budget, and nobody knows its key", r.id)
		case q.budget == nil:
			continue
		}
		if err := errors.Join(b.admit.audit(r, &q.budget.admit), b.begin.audit(r, &q.budget.begin)); err != nil {
			return err
		}
	}
	return nil
}
