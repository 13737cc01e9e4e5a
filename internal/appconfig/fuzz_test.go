package appconfig

import (
	"testing"

	"github.com/distributed-resource-manager/drm/internal/keys"
)

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"schema":1,"shards":1024}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Decode(b)
		if err != nil {
			if c != (Config{}) {
				t.Fatalf("%q: %+v besides %v", b, c, err)
			}
			return
		}
		if c.Shards < 1 || c.Shards > keys.MaxShards {
			t.Fatalf("%q: %+v", b, c)
		}
		if again, err := Decode([]byte(Encode(c.Shards))); err != nil || again != c {
			t.Fatalf("%q: %+v, then %+v, %v", b, c, again, err)
		}
	})
}
