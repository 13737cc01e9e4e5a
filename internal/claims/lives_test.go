package claims_test

import (
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/claims"
)

func TestLivesComeBackAsTheyWentIn(t *testing.T) {
	want := claims.Lives{Starts: 3, Since: time.Unix(1_800_000_000, 0).UTC()}
	if got, err := claims.DecodeLives([]byte(want.Encode())); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, value := range []string{"", "x", "{}", `{"starts":0}`, `{"starts":-1}`, `{"starts":"2"}`} {
		if got, err := claims.DecodeLives([]byte(value)); err == nil {
			t.Errorf("%q is %+v", value, got)
		}
	}
	far := claims.Lives{Starts: 1, Since: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}
	if got, err := claims.DecodeLives([]byte(far.Encode())); err != nil || got.Starts != 1 {
		t.Errorf("with a time that JSON cannot have: %+v, %v", got, err)
	}
}
