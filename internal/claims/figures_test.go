package claims_test

import (
	"testing"

	"github.com/distributed-resource-manager/drm/internal/claims"
)

func TestCorruptFiguresAreAnError(t *testing.T) {
	for _, value := range []string{
		"", "{", "[]", `{"shards":-1}`, `{"waiting":-1}`, `{"claims":"1"}`, `{"claims":1.5}`,
	} {
		if f, err := claims.DecodeFigures([]byte(value)); err == nil || f != (claims.Figures{}) {
			t.Errorf("DecodeFigures(%s) = %+v, %v", value, f, err)
		}
	}
}

func FuzzDecodeFigures(f *testing.F) {
	f.Add([]byte(`{"shards":1,"claims":2,"active":3,"failed":4,"calls":5,"stuck":6,"waiting":7}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		s, err := claims.DecodeFigures(value)
		if err != nil {
			if s != (claims.Figures{}) {
				t.Fatalf("%q: %+v besides %v", value, s, err)
			}
			return
		}
		if again, err := claims.DecodeFigures(s.Encode()); err != nil || again != s {
			t.Fatalf("%q: %+v, then %+v, %v", value, s, again, err)
		}
	})
}
