package catalogue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cespare/xxhash/v2"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// ErrNoAnswer says that there is no answer that another one could be the same as.
var ErrNoAnswer = errors.New("no answer of the source has become the catalogue yet")

// Outcome tells what one answer of the source did.
type Outcome struct {
	Resources int      // in the answer
	Added     int      // entries that the source has and did not have before
	Changed   int      // entries whose data changed
	Removed   int      // entries that the source had and has no more, or that were suspended and are not needed any more
	Held      int      // removals that are doubted and wait for a confirmation
	Rejected  []string // ids that etcd would not take, because they are too large
	Gone      []string // the first of what was removed, in order, 100 at most
	Bulk      bool     // the answer lacked so much of what there was that its removals are worth a warning
}

// Answer is what the source answered.
type Answer struct {
	Items []Item // ids are unique
	// Keep has the ids of which the answer does not clearly say what they are. The entry of such an id stays as it is,
	// also where Items has it; one that has no entry gets what Items has.
	Keep map[string]struct{}
	// KeepAll says that the answer has something of which nobody knows what id it is about: then nothing is removed.
	KeepAll bool
}

// keeps says whether the answer leaves the entry of an id alone, if there is one.
func (a *Answer) keeps(id string) bool {
	_, keeps := a.Keep[id]
	return keeps
}

// Apply makes the catalogue what a fetch answered that began at a revision. An entry written after
// that revision is left alone: a slow fetch never overwrites what came after it. Of an answer that the Rules doubt only
// those removals are made that it confirms, having been asked for (Ask) long enough after they were first seen.
//
// ErrDeposed says that the guard did not hold, ErrAppGone that the app is not what it was. After an error, what was
// written stays written, and the next Apply does the rest.
func (y *Sync) Apply(ctx context.Context, answer Answer, began int64) (Outcome, error) {
	y.answer, y.behind = nil, false
	items := answer.Items
	y.kept = Answer{Keep: answer.Keep, KeepAll: answer.KeepAll}
	marks, err := y.refresh(ctx)
	if err != nil {
		return Outcome{}, err
	}
	y.gen++
	var respelled []string
	for _, item := range items {
		k, has := y.known[item.ID]
		if !has {
			continue
		}
		k.seen = y.gen
		y.known[item.ID] = k
		if k.canonical == 0 && !k.ownData && k.modRev <= began && k.hash != xxhash.Sum64(item.Data) {
			respelled = append(respelled, item.ID)
		}
	}
	if err := y.canonicalise(ctx, respelled); err != nil {
		return Outcome{}, err
	}
	writes := make([]write, 0, max(0, len(items)-len(y.known))) // what is new
	for i := range items {
		writes = y.keep(writes, &items[i], began)
	}
	return y.finish(ctx, writes, marks, Outcome{Resources: len(items)}, began)
}

// Unchanged stands for an Apply of the same answer once more, where a source says that nothing changed since the last
// one: it confirms removals as that would, and removes what was deallocated and the source lacks. ErrNoAnswer says that
// the source must be asked for all it has: the last answer did not become the catalogue in full, or it was another
// member's, or long ago, or somebody wrote an entry since that needs the source's data. What that answer kept stays
// kept.
func (y *Sync) Unchanged(ctx context.Context, began int64) (Outcome, error) {
	if y.answer == nil || len(y.doubt) > 0 { // a write whose answer was lost may still undo a part of it
		return Outcome{}, ErrNoAnswer
	}
	last := Outcome{Resources: y.answer.Resources, Rejected: y.answer.Rejected}
	y.answer = nil
	marks, err := y.refresh(ctx)
	if err != nil {
		return Outcome{}, err
	}
	if slices.ContainsFunc(marks, y.woken) {
		return Outcome{}, ErrNoAnswer
	}
	return y.finish(ctx, nil, marks, last, began)
}

// woken says whether a mark is of an entry that the source has and that an allocation woke without data of its own. It
// may have the data of an earlier allocation, and is to have the source's, of which only the hash is remembered.
func (y *Sync) woken(m mark) bool {
	k, has := y.known[m.id]
	return has && k.seen == y.gen && k.fromSource && !k.ownData && !k.suspended
}

// finish adds the removals to the writes, sends all, and sees to what was not as remembered.
func (y *Sync) finish(ctx context.Context, writes []write, marks []mark, out Outcome, began int64) (Outcome, error) {
	removals, removed := y.removals(&out, began)
	conflicts, err := y.write(ctx, append(writes, removals...), &out)
	if err != nil {
		return out, err // what was to be removed is held as long as before
	}
	y.holding.done(removed...)
	out.Held = len(y.holding.first)
	if len(conflicts) > 0 {
		// What changed before the fetch began is decided anew, with what is there. What conflicts once more is being
		// written just now, and so newer than the fetch.
		writes = nil
		for _, w := range conflicts {
			k, has := y.known[w.id]
			switch {
			case w.item != nil:
				if has {
					k.seen = y.gen
					y.known[w.id] = k
				}
				writes = y.keep(writes, w.item, began)
			case has && k.modRev <= began && (k.fromSource || k.suspended):
				writes = append(writes, toRemove(w.id, k))
			}
		}
		left, err := y.write(ctx, writes, &out)
		if err != nil {
			return out, err
		}
		y.behind = y.behind || slices.ContainsFunc(left, func(w write) bool { return w.item != nil })
	}
	if err := y.clear(ctx, marks); err != nil {
		return out, err
	}
	out.Gone = smallest(slices.Values(out.Gone), namesMost)
	if !y.behind { // else only the whole answer, asked for anew, does the rest
		y.answer = &out
	}
	return out, nil
}

// keep appends what is to be written for an item that the source has, if anything.
func (y *Sync) keep(writes []write, item *Item, began int64) []write {
	w := write{id: item.ID, item: item, entry: &Entry{FromSource: true, Data: item.Data}, effect: added}
	k, has := y.known[item.ID]
	if !has {
		return append(writes, w)
	}
	if y.kept.keeps(item.ID) {
		return writes
	}
	w.expect = k.modRev
	w.entry.Allocated, w.entry.OwnData, w.entry.Suspended = k.allocated, k.ownData, k.suspended
	same := true
	if k.ownData {
		w.entry.Data = k.data
	} else {
		same, w.canonical = y.sameData(item, k)
	}
	if same && k.fromSource {
		return writes
	}
	if k.modRev > began {
		y.behind = true
		return writes
	}
	if k.fromSource {
		w.effect = changed
	}
	return append(writes, w)
}

// sameData compares an item with what is remembered of its entry, and remembers how the source spells it now.
func (y *Sync) sameData(item *Item, k known) (same bool, canonical uint64) {
	hash := xxhash.Sum64(item.Data)
	if hash == k.hash {
		return true, k.canonical
	}
	canonical = canonicalHash(item.Data)
	if canonical != k.canonical {
		return false, canonical
	}
	k.hash = hash // only the spelling differs
	y.known[item.ID] = k
	return true, canonical
}

// canonicalise reads entries again whose data the source spells in another way than they have it: their memory is of
// the spelling only. A source that spells its objects in another order each time must not have every resource handled
// anew with each new coordinator.
func (y *Sync) canonicalise(ctx context.Context, ids []string) error {
	err := y.store.read(ctx, ids, func(id string, kv *mvccpb.KeyValue) {
		y.learn(id, kv)
		if kv == nil {
			return
		}
		if e, err := Decode(kv.Value); err == nil {
			k := y.known[id]
			k.canonical = canonicalHash(e.Data)
			y.known[id] = k
		}
	})
	if err != nil {
		return fmt.Errorf("read changed entries: %w", err)
	}
	return nil
}

// canonicalHash is a hash of the object with its keys sorted, so that a source that spells the same object in another
// order has not changed it. It is never 0.
func canonicalHash(data json.RawMessage) uint64 {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) == nil {
		if b, err := json.Marshal(v); err == nil {
			data = b
		}
	}
	return max(1, xxhash.Sum64(data))
}

// Refused forgets the last answer: the source has given another one since, which did not become the catalogue. Where it
// says later that nothing changed, that is about the other one.
func (y *Sync) Refused() { y.answer = nil }

// sortedKeys are the keys of a map, in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
