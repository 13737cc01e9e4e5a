package core

import (
	"container/heap"
	"fmt"
	"maps"
	"math"
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
// one of the budget of its resource's key. A resource whose budget has no token waits in the queue of that budget,
// where it keeps neither other budgets waiting nor a place of Config.HandleConcurrency.
//
// A token is spent at the moment when the call begins, not when it is queued. Otherwise calls that were allowed one by
// one, and then waited together for a place, would begin at once.
type budgets struct {
	member *rate.Limiter // of all calls of this member; nil: no bound
	rate   Rate          // of the member
	perKey Rate          // of each key in the whole group; zero: there are no keys
	share  share         // the part of perKey that this member has

	keys    map[string]*budget
	sweepAt int     // how many keys there are when those are dropped that are full again
	free    *budget // of resources without a key: only the member's rate bounds them
	unknown *budget // of all resources whose key nobody could find

	able  []*budget // budgets of waiting resources that have a token, in turn; what is before head has been taken
	head  int
	later laterHeap // budgets of waiting resources that have no token yet

	rations map[*resource]*ration
	asks    fifo // resources whose keys must be found before they wait for a budget
	asking  int  // how many keys are being found
	turn    bool // whether it is the turn of calls that need no budget
}

// ration is what the budgets know of a resource of which this member has a claim.
type ration struct {
	budget *budget       // nil: the key is not known
	gen    uint32        // the seen.dataGen of the data that have the key; 0: the key is not known
	asked  uint32        // the seen.dataGen of the data whose key is being found; 0: none
	since  time.Duration // when the Handle that waits now began to wait; 0: none waits
}

// place says where a budget is.
type place uint8

const (
	unlisted  place = iota // nothing waits for it, or this member has no share of it
	listed                 // in budgets.able
	postponed              // in budgets.later
)

// budget is what one key may spend, with the resources that wait for it, in order.
type budget struct {
	fifo
	key     string
	limiter *rate.Limiter // nil: no bound
	place   place
	at      time.Duration // if postponed: when it has a token
}

// keysAtOnce is how many keys are being found at once, at most.
const keysAtOnce = 256

// newBudgets returns nil if nothing is bounded.
func newBudgets(cfg *Config) *budgets {
	if !cfg.HandleRate.bounds() && !cfg.KeyRate.bounds() {
		return nil
	}
	b := &budgets{
		rate: cfg.HandleRate, perKey: cfg.KeyRate, keys: map[string]*budget{}, sweepAt: leastKeys, free: &budget{},
		rations: map[*resource]*ration{},
	}
	b.share.grace = cfg.ShareGrace
	if b.rate.bounds() {
		b.member = rate.NewLimiter(rate.Limit(b.rate.PerSecond), b.rate.Burst)
	}
	return b
}

// leastKeys is how many budgets of keys are kept without a look at whether they are still needed.
const leastKeys = 64

// moment is the time that package rate is given for a time of the core.
func moment(now time.Duration) time.Time { return time.Unix(0, int64(now)) }

// wait returns how long it takes until the limiter has a token. A limiter that is nil always has one.
func wait(l *rate.Limiter, now time.Duration) time.Duration {
	if l == nil {
		return 0
	}
	missing := 1 - l.TokensAt(moment(now))
	if missing <= 0 {
		return 0
	}
	return time.Duration(math.Ceil(missing / float64(l.Limit()) * float64(time.Second)))
}

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

// forget drops what is known of a resource whose claim has ended.
func (b *budgets) forget(r *resource) {
	if b == nil {
		return
	}
	delete(b.rations, r)
	if r.queued == budgetQueue || r.queued == keyQueue {
		r.queued = noQueue
	}
}

// handleQueueOf says where a resource waits whose next step is Handle.
func (c *Core) handleQueueOf(r *resource) queueID {
	switch b := c.budgets; {
	case b == nil:
		return handleQueue
	case b.ration(r).gen != r.seen.dataGen:
		return keyQueue
	default:
		return budgetQueue
	}
}

// queueForHandle makes a resource wait until its Handle may be called, and before that until its key is known.
func (c *Core) queueForHandle(r *resource) {
	b, to := c.budgets, c.handleQueueOf(r)
	if b == nil {
		c.handles.push(r)
		return
	}
	q := b.ration(r)
	if q.since == 0 {
		q.since = c.now
	}
	switch noteAt := q.since + noteWaitAfter; {
	case c.now < noteAt:
		c.wakeAt(r, noteAt)
	case c.counts.handles >= c.cfg.HandleConcurrency: // it waits for a place, whatever its budget has
		c.wakeAt(r, c.now+noteWaitAfter)
	default:
		c.noteBudget(r, q)
	}
	if r.queued == to {
		return
	}
	if r.queued = to; to == keyQueue {
		if q.asked == 0 {
			b.asks.add(r)
		}
		return
	}
	q.budget.add(r)
	b.enlist(q.budget, c.now)
}

// enlist puts a budget where it belongs, given what waits for it and how many tokens it has.
func (b *budgets) enlist(k *budget, now time.Duration) {
	if k.place != unlisted || k.waiting() == 0 || b.isBarred(k) {
		return
	}
	if w := wait(k.limiter, now); w > 0 {
		k.place, k.at = postponed, now+w
		heap.Push(&b.later, k)
		return
	}
	k.place = listed
	b.able = append(b.able, k)
}

// isBarred says whether this member may spend nothing of a budget, since it has no share of it.
func (b *budgets) isBarred(k *budget) bool { return k.limiter != nil && b.share.part == 0 }

// unlist takes the budget whose turn it is out of b.able.
func (b *budgets) unlist() {
	b.able[b.head].place = unlisted
	b.able[b.head] = nil
	if b.head++; b.head > len(b.able)/2 {
		n := copy(b.able, b.able[b.head:])
		clear(b.able[n:])
		b.able, b.head = b.able[:n], 0
	}
}

// wake lists the budgets that have a token by now.
func (b *budgets) wake(now time.Duration) {
	for len(b.later) > 0 && b.later[0].at <= now {
		k := heap.Pop(&b.later).(*budget)
		k.place = unlisted
		b.enlist(k, now)
	}
}

// nextHandle returns the resource whose Handle or Update may begin, and the queue in which it waited; nil if there is
// none.
func (c *Core) nextHandle() (*resource, queueID) {
	b := c.budgets
	if b == nil {
		return c.handles.pop(), handleQueue
	}
	b.turn = !b.turn // the two take turns, so that neither keeps the other waiting
	if b.turn {
		if r := c.handles.pop(); r != nil {
			return r, handleQueue
		}
	}
	if r := c.spend(); r != nil {
		return r, budgetQueue
	}
	return c.handles.pop(), handleQueue
}

// spend spends a token of the member and of a key, and returns the resource for whose Handle it is; nil if nothing
// waits that has both.
func (c *Core) spend() *resource {
	b := c.budgets
	b.wake(c.now)
	for b.head < len(b.able) {
		k := b.able[b.head]
		r := c.firstOf(k)
		switch {
		case r == nil || b.isBarred(k) || wait(k.limiter, c.now) > 0:
			b.unlist()
			b.enlist(k, c.now)
			continue
		case wait(b.member, c.now) > 0:
			return nil
		}
		for _, l := range []*rate.Limiter{b.member, k.limiter} {
			if l != nil {
				l.AllowN(moment(c.now), 1)
			}
		}
		k.take()
		r.queued = noQueue
		b.rations[r].since = 0
		b.unlist()
		b.enlist(k, c.now)
		return r
	}
	return nil
}

// firstOf returns the first resource that waits for a budget still, and drops those before it that do not; nil if none
// waits.
func (c *Core) firstOf(k *budget) *resource {
	for k.waiting() > 0 {
		r := k.first()
		q := c.budgets.rations[r]
		waits := r.sh != nil && r.queued == budgetQueue && q != nil && q.budget == k
		if waits && r.phase == idle && c.decide(r).step == doHandle && c.handleQueueOf(r) == budgetQueue {
			return r
		}
		k.take()
		if waits {
			r.queued = noQueue
			c.reconcile(r)
		}
	}
	return nil
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
		if r.phase != idle || c.decide(r).step != doHandle {
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
	if q == nil || int64(q.asked) != gen {
		return
	}
	q.asked, q.gen, q.budget = 0, uint32(gen), b.of(key, found, now)
	if r.queued == keyQueue {
		r.queued = noQueue
	}
	c.reconcile(r)
}

// of returns the budget of a key.
func (b *budgets) of(key string, found bool, now time.Duration) *budget {
	switch {
	case found && key == "":
		return b.free
	case !found:
		if b.unknown == nil {
			b.unknown = &budget{limiter: b.limiter(now)}
		}
		return b.unknown
	}
	if k := b.keys[key]; k != nil {
		return k
	}
	b.sweep(now)
	k := &budget{key: strings.Clone(key), limiter: b.limiter(now)}
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
		if k.waiting() == 0 && !used[k] && k.limiter.TokensAt(moment(now)) >= float64(k.limiter.Burst()) {
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
	if c.counts.handles < c.cfg.HandleConcurrency {
		if b.head < len(b.able) {
			earliest(c.now + wait(b.member, c.now))
		}
		if len(b.later) > 0 {
			earliest(b.later[0].at)
		}
	}
	return at, ok
}

// waitsForBudget says whether the next Handle of a resource waits until a rate allows it.
func (r *resource) waitsForBudget() bool {
	return r.claimed() && r.phase == idle && (r.queued == budgetQueue || r.queued == keyQueue)
}

// noteBudget makes the claim's key say that Handle waits for a budget, until the outcome of that Handle is written.
func (c *Core) noteBudget(r *resource, q *ration) {
	if _, noted := c.notes[r]; noted || !r.claimed() {
		return
	}
	c.note(r, c.budgets.reason(q))
}

// reason says what a Handle waits for. It does not tell the key, which may be a value of the resource's data.
func (b *budgets) reason(q *ration) string {
	const says = "Handle waits for its turn: "
	switch k := q.budget; {
	case k == nil:
		return says + "the member does not know its budget yet"
	case k.limiter == nil || k.place == listed:
		return fmt.Sprintf(says+"this member may begin %.4g a second, and %d wait", b.rate.PerSecond, b.queued())
	default:
		return fmt.Sprintf(says+"resources of its key may begin %.4g a second, this member %.4g of these, and %d wait",
			b.perKey.PerSecond, b.perKey.PerSecond*b.share.part, k.waiting())
	}
}

// queued counts the resources that wait for budgets.
func (b *budgets) queued() int {
	n := b.free.waiting()
	for k := range b.limited {
		n += k.waiting()
	}
	return n
}

// audit looks for resources that wait for a budget which nothing will look at again. Audit calls it.
func (b *budgets) audit() error {
	if b == nil {
		return nil
	}
	for r, q := range b.rations {
		switch {
		case r.sh == nil || !r.claimed():
			return fmt.Errorf("resource %q has a ration, and no claim", r.id)
		case r.queued == keyQueue && q.asked == 0 && b.asks.waiting() == 0:
			return fmt.Errorf("resource %q: nobody finds its key", r.id)
		case r.queued == budgetQueue && q.budget.waiting() == 0:
			return fmt.Errorf("resource %q is not in the queue of its budget", r.id)
		case r.queued == budgetQueue && q.budget.place == unlisted && !b.isBarred(q.budget):
			return fmt.Errorf("resource %q waits for a budget that is not listed", r.id)
		}
	}
	return nil
}

// laterHeap has the budgets without a token, the one first that has one first.
type laterHeap []*budget

func (h laterHeap) Len() int           { return len(h) }
func (h laterHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h laterHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *laterHeap) Push(x any)        { *h = append(*h, x.(*budget)) }

func (h *laterHeap) Pop() any {
	old := *h
	k := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return k
}
