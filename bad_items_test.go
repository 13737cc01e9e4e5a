package drm_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm"
)

func TestAMillionBadItemsTakeLittleMemory(t *testing.T) {
	bad := &drm.BadItemsError{}
	broken := errors.New(strings.Repeat("x", 1000))
	for i := range 1_000_000 {
		bad.Add(drm.BadItem{Index: i, ID: fmt.Sprintf("r%d", i), Err: broken})
		if i < 10_000 && bad.KeepsAll() {
			t.Fatal("it forgets early")
		}
	}
	if bad.Count() != 1_000_000 || len(bad.Items()) != drm.MaxBadItems || !bad.KeepsAll() || !bad.Keeps("r9999") ||
		bad.Keeps("r10000") {
		t.Errorf("%d, %d, %t", bad.Count(), len(bad.Items()), bad.KeepsAll())
	}
	if n := len(fmt.Sprintf("%v %#v", bad, bad)); n > 3000 {
		t.Errorf("it says %d bytes", n)
	}
}
