package catalogue

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

// reloadEvery is how old the memory gets before the whole catalogue is read again: that mends what was done to entries
// by hand, which nothing else would tell.
const reloadEvery = time.Hour

// Sync makes the catalogue what the source answered, for as long as one member coordinates. It reads the catalogue and
// remembers it by hashes, so that a fetch that changed nothing costs etcd one short list: that of the marks.
//
// What others write meanwhile it does not follow. Of deallocated resources the marks tell; for the rest, each write
// compares the entry's mod revision with what is remembered, and takes over what is there where they differ. An entry
// that differs from the memory and that nothing is to be written to may differ.
//
// One goroutine at a time may use it.
type Sync struct {
	store *Store
	// The coordinator's key and its create revision are compared in each write: a member that was deposed while its
	// fetch was under way writes nothing.
	guardKey string
	guardRev int64

	known    map[string]known
	entries  []int  // how many of those each shard has
	sourced  int    // entries that are from the source
	loads    uint32 // counts the reads of the whole catalogue
	loadedAt time.Time
	gen      uint32               // counts the answers
	asked    time.Duration        // when the source was last asked, by the clock of the rules
	began    int64                // the revision at which the fetch began whose answer was last looked at; 0: there was none
	answer   *Outcome             // of the last answer; nil where it did not become the catalogue in full
	behind   bool                 // something of the last answer was left out, since its entry was written after the fetch began
	kept     Answer               // what the last answer kept; without its items
	holding  holding              // removals that wait for a confirmation
	doubt    map[string]time.Time // entries that a write was tried for whose answer was lost, and when
}

// known is what is remembered of an entry.
type known struct {
	modRev     int64
	hash       uint64          // of the data as the source spelled it last
	canonical  uint64          // of the data with its keys sorted; 0: not computed
	data       json.RawMessage // of a touched entry only
	seen       uint32          // the answer that had it
	load       uint32          // the load that had it
	fromSource bool
	allocated  bool
	ownData    bool
	suspended  bool
}

// touched says whether an operator has a say in the entry.
func (k known) touched() bool { return k.allocated || k.suspended }

// NewSync makes a Sync for a coordinator's term, which guardKey and its create revision stand for.
func (s *Store) NewSync(guardKey string, guardRev int64, rules Rules) *Sync {
	return &Sync{
		store: s, guardKey: guardKey, guardRev: guardRev,
		known: map[string]known{}, entries: make([]int, s.Shards), doubt: map[string]time.Time{},
		holding: newHolding(rules),
	}
}

// Lister reads all keys below a prefix at one revision.
type Lister interface {
	List(ctx context.Context, prefix string) ([]*mvccpb.KeyValue, int64, error)
}

// Load reads the catalogue. Call it before each fetch: it does so at first, and again when that was an hour ago.
func (y *Sync) Load(ctx context.Context, lister Lister) error {
	if !y.loadedAt.IsZero() && time.Since(y.loadedAt) < reloadEvery {
		return nil
	}
	y.loads++
	for n := range y.store.Shards {
		kvs, _, err := lister.List(ctx, y.store.Layout.Shard(n)+"resources/")
		if err != nil {
			return fmt.Errorf("read the catalogue: %w", err)
		}
		for _, kv := range kvs {
			key := y.store.Layout.Parse(string(kv.Key))
			if key.Kind != keys.Resource || shard.Of(key.ID, y.store.Shards) != n {
				continue // not DRM's, or not in its place
			}
			if k, has := y.known[key.ID]; has && k.modRev == kv.ModRevision {
				k.load = y.loads
				y.known[key.ID] = k
				continue
			}
			y.learn(strings.Clone(key.ID), kv) // or the id would keep all of the key in memory
		}
	}
	for id, k := range y.known {
		if k.load != y.loads {
			y.learn(id, nil)
		}
	}
	y.loadedAt = time.Now()
	y.answer = nil // "the same as before" says nothing about entries that were touched by hand
	return nil
}

// Vacant tells of each shard whether no entry of it is known.
func (y *Sync) Vacant() []bool {
	vacant := make([]bool, len(y.entries))
	for n, entries := range y.entries {
		vacant[n] = entries == 0
	}
	return vacant
}

// learn remembers an entry as etcd has it; nil: it has none.
func (y *Sync) learn(id string, kv *mvccpb.KeyValue) {
	old := y.known[id]
	if kv == nil {
		y.put(id, nil)
		return
	}
	k := known{modRev: kv.ModRevision, seen: old.seen, load: y.loads}
	if e, err := Decode(
		kv.Value,
	); err == nil { // a corrupt one is known by its revision, and overwritten when the source has it
		k.hash = xxhash.Sum64(e.Data)
		k.fromSource, k.allocated, k.suspended = e.FromSource, e.Allocated, e.Suspended
		k.ownData = e.OwnData && e.Allocated // nobody but an allocation can own data, whatever was written by hand
		if k.touched() {
			k.data = bytes.Clone(e.Data) // or all that was listed with it would be kept too
		}
	}
	y.put(id, &k)
}

// put remembers an entry, or forgets it.
func (y *Sync) put(id string, k *known) {
	n := shard.Of(id, y.store.Shards)
	if old, has := y.known[id]; has {
		y.entries[n]--
		if old.fromSource {
			y.sourced--
		}
	}
	if k == nil {
		delete(y.known, id)
		return
	}
	y.entries[n]++
	if k.fromSource {
		y.sourced++
	}
	y.known[id] = *k
}
