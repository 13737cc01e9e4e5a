package membership

import (
	"cmp"
	"encoding/json"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

// A member whose weight is greater than shard.Single reserves consecutive slots with one key, a block. Members of
// Schema 1 know no blocks: for them, such a member has only the slots that it has reserved by themselves, if any.

// blockValue is the value of a block's key.
type blockValue struct {
	Member string `json:"member"` // empty: the block is free
	Slots  int    `json:"slots"`
	Used   int    `json:"used"`
}

// EncodeBlock returns the value of the key of a block, which has its first slot in its name.
func EncodeBlock(b shard.Block) string { return encode(blockValue{b.Member, b.Slots, b.Used}) }

func decodeBlock(key keys.Key, kv *mvccpb.KeyValue) (shard.Block, bool) {
	var v blockValue
	if json.Unmarshal(kv.Value, &v) != nil || v.Slots < 1 || v.Slots > MaxWeight || v.Used < 0 || v.Used > v.Slots ||
		v.Member != "" && keys.CheckID(v.Member) != nil {
		return shard.Block{}, false
	}
	return shard.Block{From: key.Number, Slots: v.Slots, Used: v.Used, Member: v.Member}, true
}

// order puts the blocks in order, and drops those that lie in one before them, as no Registrar writes them.
func (v *View) order(layout keys.Layout) {
	slices.SortFunc(v.Blocks, func(a, b shard.Block) int { return cmp.Compare(a.From, b.From) })
	end := 0
	v.Blocks = slices.DeleteFunc(v.Blocks, func(b shard.Block) bool {
		if b.From < end {
			v.Corrupt = append(v.Corrupt, layout.Block(b.From))
			return true
		}
		end = b.From + b.Slots
		return false
	})
}

// Reserved says for whom the slots of the ring are reserved.
func (v *View) Reserved() shard.Reserved {
	return shard.Reserved{Slots: v.Slots, Blocks: v.Blocks, LastSlot: keys.MaxSlots}
}

// HasBeenHere says whether slots are reserved for a member, from this life or an earlier one.
func (v *View) HasBeenHere(id string) bool {
	return slices.Contains(v.Slots, id) || slices.ContainsFunc(v.Blocks, func(b shard.Block) bool {
		return b.Member == id
	})
}

// holders returns the members for which slots are reserved.
func (v *View) holders() map[string]bool {
	all := map[string]bool{}
	for _, id := range v.Slots {
		all[id] = true
	}
	for _, b := range v.Blocks {
		all[b.Member] = true
	}
	delete(all, "")
	return all
}

// ringOf makes the ring of the members that are accepted, as far as they say that they have their slots. rest is
// accepted with all slots that are reserved for it.
func (v *View) ringOf(accepted, rest func(id string) bool, withBlocks bool) *shard.Ring {
	slots := make([]string, len(v.Slots))
	type listing struct {
		from   int
		member string
	}
	lists := map[listing]bool{} // who says of which blocks that it has them
	for id, m := range v.Members {
		if !accepted(id) {
			continue
		}
		for _, n := range m.Slots {
			if n < len(slots) && v.Slots[n] == id {
				slots[n] = id
			}
		}
		for _, from := range m.Blocks {
			lists[listing{from, id}] = true
		}
	}
	for n, id := range v.Slots {
		if id != "" && rest(id) {
			slots[n] = id
		}
	}
	if !withBlocks {
		return shard.NewRing(slots)
	}
	blocks := slices.Clone(v.Blocks)
	for i, b := range blocks {
		if b.Member != "" && !lists[listing{b.From, b.Member}] && !rest(b.Member) {
			blocks[i].Member = ""
		}
	}
	return shard.NewBlockRing(slots, blocks)
}
