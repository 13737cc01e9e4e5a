package catalogue

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

// reloadEvery is how old the memory may get before the whole catalogue is read again. That repairs what somebody did to
// entries by hand, which nothing else would show.
const reloadEvery = time.Hour

// Sync makes the catalogue equal to what the source answered, for as long as one member coordinates. It reads the
// catalogue once and remembers it by hashes, so that a fetch that changed nothing costs etcd one short list: the list
// of the marks.
//
// It does not follow what others write meanwhile. The marks tell of deallocated resources. For the rest, each write
// compares the entry's mod revision with the remembered one, and if they differ, Sync learns what is there. An entry
// that needs no write may differ from the memory.
//
// Only one goroutine at a time may use it.
type Sync struct {
	store *Store
	// Each write compares the create revision of the coordinator's key: a member that was deposed during its fetch
	// writes nothing.
	guardKey string
	guardRev int64

	known    map[string]known
	entries  []int  // how many entries each shard has
	sourced  int    // how many entries are from the source
	loads    uint32 // counts the reads of the whole catalogue
	loadedAt time.Time
	gen      uint32               // counts the answers
	asked    time.Duration        // when the source was last asked, by the clock of the rules
	began    int64                // the revision at which the fetch of the last answer began; 0: there was none
	answer   *Outcome             // the outcome of the last answer; nil if it did not become the catalogue in full
	behind   bool                 // an entry was left out, since it was written after the last fetch began
	kept     Answer               // what the last answer kept, without its items
	holding  holding              // removals that wait for a confirmation
	doubt    map[string]time.Time // entries of writes whose answer was lost, and when that was
}

// known is what Sync remembers of an entry.
type known struct {
	modRev     int64
	hash       uint64          // of the data as the source spelled it last
	canonical  uint64          // of the data with its keys sorted; 0: not computed
	data       json.RawMessage // only of an entry that is touched
	suspension *Suspension     // by an operator
	seen       uint32          // the number of the last answer that had it
	load       uint32          // the number of the last load that had it
	fromSource bool
	allocated  bool
	ownData    bool
	suspended  bool
}

// touched says whether an allocation or a deallocation has affected the entry.
func (k known) touched() bool { return k.allocated || k.suspended }

// NewSync makes a Sync for a coordinator's term, which guardKey and its create revision identify.
func (s *Store) NewSync(guardKey string, guardRev int64, rules Rules) *Sync {
	return &Sync{
		store: s, guardKey: guardKey, guardRev: guardRev,
		known: map[string]known{}, entries: make([]int, s.Shards), doubt: map[string]time.Time{},
		holding: newHolding(rules),
	}
}

// Lister reads all keys below a prefix at one revision. Any number of goroutines may call it at once.
type Lister interface {
	List(ctx context.Context, prefix string) ([]*mvccpb.KeyValue, int64, error)
}

// Load reads the catalogue. The coordinator calls it before each fetch: it reads the first time, and again when the
// last read was an hour ago.
func (y *Sync) Load(ctx context.Context, lister Lister) error {
	if !y.loadedAt.IsZero() && time.Since(y.loadedAt) < reloadEvery {
		return nil
	}
	y.loads++
	if err := y.loadShards(ctx, lister); err != nil {
		return fmt.Errorf("read the catalogue: %w", err)
	}
	for id, k := range y.known {
		if k.load != y.loads {
			y.learn(id, nil)
		}
	}
	y.loadedAt = time.Now()
	y.answer = nil // an "unchanged" of the source says nothing about entries that were changed by hand
	return nil
}

// loadShards reads the entries of all shards.
func (y *Sync) loadShards(ctx context.Context, lister Lister) error {
	var mu sync.Mutex // y has one user at a time
	return y.store.eachShard(ctx, func(ctx context.Context, n int) error {
		kvs, _, err := lister.List(ctx, y.store.Layout.Shard(n)+"resources/")
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		y.loadShard(n, kvs)
		return nil
	})
}

// loadShard learns the entries of one shard.
func (y *Sync) loadShard(n int, kvs []*mvccpb.KeyValue) {
	for _, kv := range kvs {
		key := y.store.Layout.Parse(string(kv.Key))
		if key.Kind != keys.Resource || shard.Of(key.ID, y.store.Shards) != n {
			continue // not a key of DRM's, or not in its place
		}
		if k, has := y.known[key.ID]; has && k.modRev == kv.ModRevision {
			k.load = y.loads
			y.known[key.ID] = k
			continue
		}
		y.learn(strings.Clone(key.ID), kv) // without the clone the id would keep the whole key in memory
	}
}

// Vacant says for each shard whether no entry of it is known.
func (y *Sync) Vacant() []bool {
	vacant := make([]bool, len(y.entries))
	for n, entries := range y.entries {
		vacant[n] = entries == 0
	}
	return vacant
}

// learn remembers an entry as etcd has it; nil means that there is no entry.
func (y *Sync) learn(id string, kv *mvccpb.KeyValue) {
	old := y.known[id]
	if kv == nil {
		y.put(id, nil)
		return
	}
	k := known{modRev: kv.ModRevision, seen: old.seen, load: y.loads}
	// A corrupt entry is remembered by its revision, and overwritten when the source has the resource.
	if e, err := Decode(kv.Value); err == nil {
		k.hash = xxhash.Sum64(e.Data)
		k.fromSource, k.allocated, k.suspended = e.FromSource, e.Allocated, e.Suspended
		k.suspension = e.Suspension
		k.ownData = e.OwnData && e.Allocated // only an allocation can own data, whatever somebody wrote by hand
		if k.touched() {
			k.data = bytes.Clone(e.Data) // without the clone everything that was listed with it would stay in memory
		}
	}
	y.put(id, &k)
}

// put remembers an entry, or forgets it if k is nil.
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
