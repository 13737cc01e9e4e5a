package membership

import (
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/keys"
)

var fuzzLayout = keys.New("/drm", "app")

func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte(Record{
		State: Active, Weight: 2, Slots: []int{0, 7}, Address: "h:1",
		Labels: map[string]string{"zone": "1"}, Version: "v1",
	}.Encode()))
	f.Add([]byte(`{"state":"active","weight":32,"exact_weight":1000,"slots":[1],"blocks":[7,2000],"held":1000}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := decodeRecord(value)
		if err != nil {
			if !reflect.DeepEqual(r, Record{}) {
				t.Fatalf("%q: %+v besides %v", value, r, err)
			}
			return
		}
		again, err := decodeRecord([]byte(r.Encode()))
		if err != nil || !again.Started.Equal(r.Started) {
			t.Fatalf("%q: %+v, then %+v, %v", value, r, again, err)
		}
		again.Started = r.Started // equal times may differ as values
		if len(r.Labels) == 0 {
			again.Labels, r.Labels = nil, nil
		}
		if !reflect.DeepEqual(again, r) {
			t.Fatalf("%q: %+v, then %+v", value, r, again)
		}
	})
}

func FuzzDecodeDecline(f *testing.F) {
	f.Add([]byte(`{"shards":"0-5,9,4094-4095","lacks":{"9":3}}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		d, ok := decodeDecline(&mvccpb.KeyValue{Value: value})
		if !ok {
			if d.shards != nil {
				t.Fatalf("%q: %v, though it is not understood", value, d.shards)
			}
			return
		}
		declined := Decline{Shards: make([]bool, keys.MaxShards), Lacks: make([]int, keys.MaxShards)}
		for _, n := range d.shards {
			declined.Shards[n] = true
		}
		for n, wanted := range d.lacks {
			declined.Lacks[n] = wanted
		}
		again, ok := decodeDecline(&mvccpb.KeyValue{Value: []byte(declined.encode())})
		if !ok || !slices.Equal(again.shards, d.shards) || !maps.Equal(again.lacks, d.lacks) {
			t.Fatalf("%q: %v, then %v, %v", value, d, again, ok)
		}
	})
}

func FuzzDecodePlacement(f *testing.F) {
	f.Add([]byte(`{"0":"a","4095":"b/😀"}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		placement, ok := decodePlacement(value)
		if !ok && placement != nil {
			t.Fatalf("%q: %v, though it is not understood", value, placement)
		}
		for n := range placement {
			if n < 0 || n >= keys.MaxShards {
				t.Fatalf("%q: shard %d", value, n)
			}
		}
	})
}

// fuzzPicture makes the keys below group/ from a text that has a key and its value in each line. The revisions follow
// from the keys.
func fuzzPicture(text string) map[string]*mvccpb.KeyValue {
	picture := map[string]*mvccpb.KeyValue{}
	for line := range strings.SplitSeq(text, "\n") {
		key, value, _ := strings.Cut(line, "=")
		key = fuzzLayout.Group() + key
		number := int64(crc32.ChecksumIEEE([]byte(key)))
		picture[key] = &mvccpb.KeyValue{
			Key:            []byte(key),
			Value:          []byte(value),
			CreateRevision: number,
			Lease:          number % 3,
		}
	}
	return picture
}

func FuzzNewView(f *testing.F) {
	f.Add(`members/a={"state":"active","weight":1,"slots":[0]}
slots/00000=a
members/b={"state":"leaving","weight":2,"slots":[1,2]}
slots/00001=b
drains/a=
pins/0003=b
placement={"7":"a"}
coordinator=a`, uint64(1))
	f.Add(`members/a={"state":"active","weight":1,"slots":[0]}
slots/00000=a
members/b={"state":"unready","weight":1,"slots":[1],"reason":"no","min_ready":0.6}
slots/00001=b
members/c={"state":"unready","weight":1,"slots":[2],"min_ready":7}`, uint64(1))
	f.Fuzz(func(t *testing.T, text string, seed uint64) {
		const shards = 16
		picture := fuzzPicture(text)
		kvs := slices.Collect(maps.Values(picture))
		v := NewView(fuzzLayout.Root(), shards, kvs, 9)

		// The order of the keys must make no difference.
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(kvs), func(i, j int) { kvs[i], kvs[j] = kvs[j], kvs[i] })
		if again := NewView(fuzzLayout.Root(), shards, kvs, 9); !reflect.DeepEqual(again, v) {
			t.Fatalf("%q: %+v, then %+v", text, v, again)
		}
		// A key that is not understood must change nothing but the list of such keys.
		for _, key := range v.Corrupt {
			if fuzzLayout.Parse(key).Kind == keys.Coordinator || fuzzLayout.Parse(key).Kind == keys.Slot {
				continue // that the key exists says something, whatever its value
			}
			delete(picture, key)
		}
		sound := NewView(fuzzLayout.Root(), shards, slices.Collect(maps.Values(picture)), 9)
		if !slices.Equal(sound.Owners(), v.Owners()) || !reflect.DeepEqual(sound.Members, v.Members) {
			t.Fatalf("%q: without what is corrupt: %+v, with it: %+v", text, sound, v)
		}
		// A shard belongs to an active member, to an unready one where that is ignored, or to nobody.
		for n, owner := range v.Owners() {
			state := v.Members[owner].State
			if owner != "" && state != Active && !(state == Unready && v.UnreadyIgnored()) {
				t.Fatalf("%q: shard %d is %q's", text, n, owner)
			}
		}
	})
}
