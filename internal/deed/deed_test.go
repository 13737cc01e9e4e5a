package deed_test

import (
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/deed"
)

func TestADeedIsReadAsItWasWritten(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_999_999, time.FixedZone("east", 3600))
	since := time.Date(2026, 1, 2, 2, 4, 5, 678_000_000, time.UTC)
	want := deed.Deed{By: "ann@host", Why: "a <new> kernel", Since: since}
	d := deed.Origin{By: want.By, Why: want.Why}.At(at)
	if got, err := deed.Decode([]byte(d.Encode())); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if got := (deed.Origin{}).At(at); got != (deed.Deed{}) {
		t.Errorf("of nobody: %+v", got)
	}
	if got, err := deed.Decode([]byte("?")); err == nil || !got.Origin().IsZero() {
		t.Errorf("of what is no deed: %+v, %v", got, err)
	}
	d.Since = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	if got, err := deed.Decode([]byte(d.Encode())); err != nil || got.By != want.By || !got.Since.IsZero() {
		t.Errorf("at a time that JSON does not have: %+v, %v", got, err)
	}
}
