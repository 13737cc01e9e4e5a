package claims

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Loads is the value of a member's key of loads: what its shards weigh, in thousandths of a resource of the weight 1.
type Loads struct {
	Shards  map[int]int64 // by shard; without those of no weight
	Pending int64         // of this, the weight of what the member has not handled yet
	// Seen is the revision of the newest view that the member has acted upon: what it owns since then, it does not tell
	// of. 0: that is not known, as of programs before this field.
	Seen int64
}

// loadsValue is the value as JSON.
type loadsValue struct {
	Shards  map[string]int64 `json:"shards"`
	Pending int64            `json:"pending,omitempty"`
	Seen    int64            `json:"seen,omitempty"`
}

// Encode returns the value of the key.
func (l Loads) Encode() []byte {
	v := loadsValue{Shards: make(map[string]int64, len(l.Shards)), Pending: l.Pending, Seen: l.Seen}
	for n, load := range l.Shards {
		v.Shards[strconv.Itoa(n)] = load
	}
	b, err := json.Marshal(v)
	if err != nil { // texts and numbers can always be marshalled
		panic(err)
	}
	return b
}

// mostLoad bounds each number of a Loads that is read, so that sums of them do not overflow.
const mostLoad = 1 << 50

// DecodeLoads reads a member's loads, for an app with that number of shards. The error says what is wrong with the
// value.
func DecodeLoads(value []byte, shards int) (Loads, error) {
	var v loadsValue
	if err := json.Unmarshal(value, &v); err != nil {
		return Loads{}, err
	}
	if v.Pending < 0 || v.Pending > mostLoad {
		return Loads{}, errors.New("pending is out of range")
	}
	if v.Seen < 0 {
		return Loads{}, errors.New("seen is out of range")
	}
	l := Loads{Shards: make(map[int]int64, len(v.Shards)), Pending: v.Pending, Seen: v.Seen}
	for name, load := range v.Shards {
		n, err := strconv.Atoi(name)
		if err != nil || n < 0 || n >= shards || strconv.Itoa(n) != name {
			return Loads{}, fmt.Errorf("shard %q, want 0 to %d", name, shards-1)
		}
		if load < 0 || load > mostLoad {
			return Loads{}, fmt.Errorf("shard %d: load %d is out of range", n, load)
		}
		l.Shards[n] = load
	}
	return l, nil
}
