package claims

import (
	"maps"
	"testing"
)

func TestLoadsComeBackAsTheyWentIn(t *testing.T) {
	for _, l := range []Loads{{}, {Shards: map[int]int64{0: 1000, 63: 5}, Pending: 7, Seen: 9}} {
		got, err := DecodeLoads(l.Encode(), 64)
		if err != nil || !maps.Equal(got.Shards, l.Shards) || got.Pending != l.Pending || got.Seen != l.Seen {
			t.Errorf("%+v became %+v, %v", l, got, err)
		}
	}
}

func TestLoadsThatAreNotUnderstood(t *testing.T) {
	for _, value := range []string{
		"", "[]", `{"shards":{"64":1}}`, `{"shards":{"-1":1}}`, `{"shards":{"01":1}}`, `{"shards":{"1":-1}}`,
		`{"shards":{"1":1e300}}`, `{"pending":-1}`, `{"pending":9000000000000000000}`,
		`{"shards":{"1":2000000000000000}}`, `{"seen":-1}`,
	} {
		if got, err := DecodeLoads([]byte(value), 64); err == nil {
			t.Errorf("%s: %+v", value, got)
		}
	}
}

func FuzzDecodeLoads(f *testing.F) {
	f.Add([]byte(`{"shards":{"0":1000,"63":5},"pending":7,"seen":9}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		l, err := DecodeLoads(value, 64)
		if err != nil {
			return
		}
		again, err := DecodeLoads(l.Encode(), 64)
		if err != nil || !maps.Equal(again.Shards, l.Shards) || again.Pending != l.Pending || again.Seen != l.Seen {
			t.Fatalf("%q: %+v, then %+v, %v", value, l, again, err)
		}
	})
}
