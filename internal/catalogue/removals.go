package catalogue

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
)

// ErrOtherSet says that the removals that are held are not those that the order names.
var ErrOtherSet = errors.New("other removals are held than the order names")

const (
	// fewShare is the share of few entries that may be removed without a doubt: of three entries the source may well
	// drop two.
	fewShare = 0.8
	// namesMost is how many ids are named when removals are reported, of which there may be very many.
	namesMost = 100
)

// Rules say which removals are doubted, and what confirms them.
type Rules struct {
	// Share is the share of the source's entries above which an answer's removals are doubted, if there are more than
	// MoreThan entries. With fewer entries, an answer is doubted only if it would also remove more than four fifths. An
	// empty answer that would remove anything is always doubted.
	Share    float64
	MoreThan int
	// Delay is how long a removal must have been known before the source is asked for an answer that may confirm it.
	Delay time.Duration
	// Hold says that no answer confirms a removal, and only Accept does.
	Hold bool
	// Now returns the time of a clock that goes on while the machine sleeps.
	Now func() time.Duration
}

// doubts says whether an answer with that many items is doubted. It lacks missing of the had entries that the source
// had.
func (r Rules) doubts(answered, had, missing int) bool {
	switch {
	case missing == 0:
		return false
	case answered == 0:
		return true
	}
	share := r.Share
	if had <= r.MoreThan {
		share = max(share, fewShare)
	}
	return float64(missing) > (share+1e-9)*float64(had) // a share such as 0.29 is stored as a little less
}

// bulk says whether that many removals are worth a warning, even if the rules are so loose that nobody doubts them.
func (r Rules) bulk(answered, had, missing int) bool {
	r.Share, r.MoreThan = min(r.Share, 0.2), min(r.MoreThan, 10)
	return r.doubts(answered, had, missing)
}

// Held describes the removals that wait for a confirmation.
type Held struct {
	Count  int
	Digest string        // identifies the set of their ids
	First  []string      // the first of their ids, in order, at most 100
	Since  time.Duration // since when removals have been held without a break, by the clock of the rules
	Joined time.Duration // when the last one of them was added
	Due    time.Duration // when the source may be asked for an answer that confirms the first of them
	// Unclear says that the last answer has an item that may stand for any of them; such an answer confirms nothing.
	Unclear bool
}

// holding decides on removals. It knows neither the catalogue nor etcd, only ids and times.
//
// Each doubted removal has its own time: when the first answer that lacked the id came. An id that is in an answer
// again is forgotten.
type holding struct {
	rules    Rules
	first    map[string]time.Duration // the removals that are held, and when each was first seen
	since    time.Duration            // since when removals have been held
	accepted map[string]struct{}      // the held removals that somebody has accepted
	unclear  bool                     // the last answer may have had any of them
	order    string                   // the digest of the set that was accepted and is not yet removed
	past     *past                    // what the previous coordinator held; nil after the first answer
}

// past is what the previous coordinator held, with times on this coordinator's clock.
type past struct {
	digest        string
	since, joined time.Duration
}

func newHolding(rules Rules) holding {
	return holding{rules: rules, first: map[string]time.Duration{}, accepted: map[string]struct{}{}}
}

// decide gets the entries that the source had and an answer lacks, and returns those to remove. If the answer is not
// doubted, these are all of them. asked is when the source was asked. What is to be removed stays held until done is
// called, in case it cannot be written.
func (h *holding) decide(missing []string, answered, had int, asked time.Duration) (remove []string) {
	if h.unclear { // the ids that the last answer lacked may have been there, so all waiting begins anew
		h.forget()
	}
	if !h.rules.doubts(answered, had, len(missing)) {
		h.forget()
		return missing
	}
	h.hold(missing)
	for _, id := range missing {
		if h.isAccepted(id) || h.confirmed(h.first[id], asked) {
			remove = append(remove, id)
		}
	}
	return remove
}

// holdAll is decide for an answer that confirms nothing, since it has an item that may stand for any id. What somebody
// has accepted is removed all the same.
func (h *holding) holdAll(missing []string) (remove []string) {
	if !h.unclear {
		h.forget()
	}
	h.unclear = true
	h.hold(missing)
	for _, id := range missing {
		if h.isAccepted(id) {
			remove = append(remove, id)
		}
	}
	return remove
}

func (h *holding) isAccepted(id string) bool {
	_, accepted := h.accepted[id]
	return accepted
}

// hold makes these ids the ones that are held. An id that was held before keeps its time.
func (h *holding) hold(missing []string) {
	before, was := h.first, h.past
	h.past = nil
	now := h.rules.Now()
	first := make(map[string]time.Duration, len(missing))
	for _, id := range missing {
		if seen, again := before[id]; again {
			first[id] = seen
		} else {
			first[id] = now
		}
	}
	switch {
	case was != nil && digestOf(maps.Keys(first)) == was.digest:
		h.since = min(was.since, now)
		for id := range first {
			first[id] = min(was.joined, now)
		}
	case len(before) == 0:
		h.since = now
	}
	h.first = first
	maps.DeleteFunc(h.accepted, func(id string, _ struct{}) bool { _, still := first[id]; return !still })
}

// confirmed says whether an answer confirms a removal, by when the source was asked and when the removal was first
// seen.
func (h *holding) confirmed(seen, asked time.Duration) bool {
	return !h.rules.Hold && asked-seen >= h.rules.Delay
}

// accept marks the held removals as accepted, if their digest is this one. The same set may be accepted again before it
// is removed: then what is left of it is still to be removed.
func (h *holding) accept(digest string) error {
	switch {
	case len(h.first) > 0 && digestOf(maps.Keys(h.first)) == digest:
		h.order = digest
		for id := range h.first {
			h.accepted[id] = struct{}{}
		}
	case h.order != digest || digest == "":
		return ErrOtherSet
	}
	return nil
}

// done forgets removals that were made.
func (h *holding) done(removed ...string) {
	for _, id := range removed {
		delete(h.first, id)
		delete(h.accepted, id)
	}
}

// forget makes all waiting begin anew.
func (h *holding) forget() {
	h.first, h.past, h.unclear = map[string]time.Duration{}, nil, false
	clear(h.accepted)
}

// held describes the removals that are held.
func (h *holding) held() Held {
	if len(h.first) == 0 {
		return Held{}
	}
	all := Held{
		Count: len(h.first), Digest: digestOf(maps.Keys(h.first)), First: smallest(maps.Keys(h.first), namesMost),
		Since: h.since, Due: 1<<63 - 1, Unclear: h.unclear,
	}
	for _, seen := range h.first {
		all.Joined = max(all.Joined, seen)
		all.Due = min(all.Due, seen+h.rules.Delay)
	}
	return all
}

// digestOf identifies a set of ids, in whatever order they come.
func digestOf(ids iter.Seq[string]) string {
	var sum uint64
	count := 0
	for id := range ids {
		sum += xxhash.Sum64String(id)
		count++
	}
	return fmt.Sprintf("%016x-%d", sum, count)
}

// smallest returns the first n of the ids, in order.
func smallest(ids iter.Seq[string], n int) []string {
	var first []string
	for id := range ids {
		if len(first) == n && id > first[n-1] {
			continue
		}
		at, _ := slices.BinarySearch(first, id)
		first = slices.Insert(first, at, id)
		first = first[:min(len(first), n)]
	}
	return first
}

// Ask notes that the source is asked now. The coordinator calls it before each Fetch whose answer goes to Apply or
// Unchanged: an answer confirms removals only if the source was asked long enough after they were first seen.
func (y *Sync) Ask() { y.asked = y.holding.rules.Now() }

// Inherit tells a Sync that has had no answer yet what the previous coordinator held: how long ago removals began to be
// held, and how long ago the last of them was added. If the first answer is doubted because of the same removals, that
// time counts; otherwise all waiting begins anew.
func (y *Sync) Inherit(digest string, since, joined time.Duration) {
	now := y.holding.rules.Now()
	y.holding.past = &past{digest: digest, since: now - max(since, 0), joined: now - max(joined, 0)}
}

// Held describes the removals that wait for a confirmation.
func (y *Sync) Held() Held { return y.holding.held() }

// Answered says whether there has been an answer, so that it is known what the answer lacks.
func (y *Sync) Answered() bool { return y.began != 0 }

// Accept makes the held removals that a digest identifies, without another answer of the source: exactly those that the
// last answer lacked. It leaves alone an entry that was written since the source was asked. ErrOtherSet says that other
// removals are held by now. After another error, Accept with the same digest does the rest.
func (y *Sync) Accept(ctx context.Context, digest string) (Outcome, error) {
	var out Outcome
	if err := y.holding.accept(digest); err != nil {
		return out, err
	}
	out.Bulk = true
	for range 2 { // the second time for entries that were not as remembered
		var writes []write
		for id := range y.holding.accepted {
			k, has := y.known[id]
			if has && k.fromSource && k.seen != y.gen && k.modRev <= y.began {
				writes = append(writes, toRemove(id, k))
			} else {
				y.holding.done(id)
			}
		}
		conflicts, err := y.write(ctx, writes, &out)
		if err != nil {
			return out, err
		}
		again := make(map[string]struct{}, len(conflicts))
		for _, w := range conflicts {
			again[w.id] = struct{}{}
		}
		for _, w := range writes {
			if _, conflict := again[w.id]; !conflict {
				y.holding.done(w.id)
			}
		}
	}
	y.holding.done(sortedKeys(y.holding.accepted)...) // an entry written just now is newer than the answer
	y.holding.order = ""
	out.Gone = smallest(slices.Values(out.Gone), namesMost)
	return out, nil
}

// removals returns the writes for entries that the source no longer has, and the ids of those that count as removals.
func (y *Sync) removals(out *Outcome, began int64) (writes []write, removed []string) {
	y.began = began
	var missing []string
	for id, k := range y.known {
		switch {
		case k.seen == y.gen || y.kept.keeps(id) || k.modRev > began:
		case k.fromSource:
			missing = append(missing, id)
		case k.isLeftOver() && !y.kept.KeepAll:
			writes = append(writes, toRemove(id, k))
		}
	}
	if y.kept.KeepAll {
		removed = y.holding.holdAll(missing)
	} else {
		removed = y.holding.decide(missing, out.Resources, y.sourced, y.asked)
	}
	out.Bulk = y.holding.rules.bulk(out.Resources, y.sourced, len(missing))
	for _, id := range removed {
		writes = append(writes, toRemove(id, y.known[id]))
	}
	return writes, removed
}

// toRemove is the write for an entry that the source no longer has. An allocation may still want the resource.
func toRemove(id string, k known) write {
	w := write{id: id, expect: k.modRev, effect: removed}
	if k.allocated {
		w.entry = &Entry{Allocated: true, OwnData: k.ownData, Data: k.data}
		w.entry.Suspended, w.entry.Suspension = k.suspension != nil, k.suspension
	}
	return w
}

// isLeftOver says whether an entry that the source does not have is there only because it was suspended while the
// source had it. What an allocation wants, and an operator has suspended, is there for good.
func (k known) isLeftOver() bool { return k.suspended && !(k.allocated && k.suspension != nil) }
