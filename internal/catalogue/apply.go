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

// ErrNoAnswer says that there is no earlier answer that the source's "unchanged" could refer to.
var ErrNoAnswer = errors.New("no answer of the source has become the catalogue yet")

// Outcome tells what one answer of the source changed.
type Outcome struct {
	Resources int      // how many resources the answer has
	Added     int      // entries that the source has now and did not have before
	Changed   int      // entries whose data changed
	Removed   int      // entries that the source no longer has, or that need no suspension any more
	Held      int      // removals that are doubted and wait for a confirmation
	Rejected  []string // ids that etcd does not take because their data is too large
	Gone      []string // the first of the removed ids, in order, at most 100
	Bulk      bool     // the answer lacked so many of the source's entries that it is worth a warning
}

// Answer is what the source answered.
type Answer struct {
	Items []Item // their ids are unique
	// Keep has the ids about which the answer is unclear. The entry of such an id stays as it is, even if Items has the
	// id; if there is no entry, Items makes one.
	Keep map[string]struct{}
	// KeepAll says that the answer has an item whose id nobody knows. Then nothing is removed.
	KeepAll bool
}

// keeps says whether the answer leaves an existing entry of an id alone.
func (a *Answer) keeps(id string) bool {
	_, keeps := a.Keep[id]
	return keeps
}

// Apply makes the catalogue equal to the answer of a fetch that began at a revision. It leaves alone every entry that
// was written after that revision, so a slow fetch never overwrites what came after it. If the Rules doubt the answer,
// Apply makes only those removals that the answer confirms: the source was asked (Ask) long enough after they were
// first seen.
//
// ErrDeposed says that this member is no longer the coordinator, ErrAppGone that the app was deleted. After an error,
// what was written stays written, and the next Apply does the rest.
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
	writes := make([]write, 0, max(0, len(items)-len(y.known))) // room for the new entries
	for i := range items {
		writes = y.keep(writes, &items[i], began)
	}
	return y.finish(ctx, writes, marks, Outcome{Resources: len(items)}, began)
}

// Unchanged stands for an Apply of the last answer once more, when the source says that nothing has changed since. It
// confirms removals as that Apply would, and removes what was deallocated and the source lacks. ErrNoAnswer says that
// the source must be asked for everything: the last answer did not become the catalogue in full, was another member's,
// or came long ago, or since then somebody wrote an entry that needs the source's data. What the last answer kept stays
// kept.
func (y *Sync) Unchanged(ctx context.Context, began int64) (Outcome, error) {
	if y.answer == nil || len(y.doubt) > 0 { // a write whose answer was lost may still undo a part of the last answer
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

// woken says whether a mark belongs to an entry that the source has, and that an allocation woke without data of its
// own. The entry may have the data of an earlier allocation, but must get the source's data, of which only the hash is
// remembered.
func (y *Sync) woken(m mark) bool {
	k, has := y.known[m.id]
	return has && k.seen == y.gen && k.fromSource && !k.ownData && !k.suspended
}

// finish adds the removals to the writes, sends all of them, and handles the entries that were not as remembered.
func (y *Sync) finish(ctx context.Context, writes []write, marks []mark, out Outcome, began int64) (Outcome, error) {
	removals, removed := y.removals(&out, began)
	conflicts, err := y.write(ctx, append(writes, removals...), &out)
	if err != nil {
		return out, err // the removals stay held as before
	}
	y.holding.done(removed...)
	out.Held = len(y.holding.first)
	if len(conflicts) > 0 {
		// An entry that changed before the fetch began is decided anew, by what is there now. An entry that conflicts
		// once more is being written just now, so it is newer than the fetch.
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
			case has && k.modRev <= began && (k.fromSource || k.isLeftOver()):
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
	if !y.behind { // otherwise only a whole new answer does the rest
		y.answer = &out
	}
	return out, nil
}

// keep appends the write that an item of the source needs, if it needs one.
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
	w.entry.Suspension = k.suspension
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

// sameData compares an item with what is remembered of its entry, and remembers the source's current spelling.
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

// canonicalise reads again the entries whose data the source now spells in another way, since only the spelling is
// remembered. A source may spell its objects in another order each time; without this, every new coordinator would have
// every resource handled anew.
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

// canonicalHash is a hash of the object with its keys sorted, so that another order of the same object does not count
// as a change. It is never 0.
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

// Refused forgets the last answer, because the source has since given an answer that did not become the catalogue. If
// the source then says that nothing has changed, it means the refused answer.
func (y *Sync) Refused() { y.answer = nil }

// sortedKeys returns the keys of a map in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
