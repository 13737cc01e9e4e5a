package core

import "testing"

func TestAWeightKeepsThreeDigits(t *testing.T) {
	for _, w := range []int64{1, 2, 999, 1000, 1001, 2047, 2048, 65_535, 1_000_000, 1_000_000_000, 123_456_789_012} {
		got := weightOf(w).value()
		if got > w || float64(w-got) > float64(w)/1000 {
			t.Errorf("%d became %d", w, got)
		}
	}
	for _, w := range []int64{0, -1} {
		if got := weightOf(w).value(); got != OneWeight {
			t.Errorf("%d became %d", w, got)
		}
	}
	if got := weightOf(1 << 62).value(); got < 1<<40 {
		t.Errorf("the heaviest became %d", got)
	}
}
