package ready_test

import (
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/ready"
)

func TestAMemberStaysAwayLongerWithEachShortLife(t *testing.T) {
	const s = time.Second
	for short, want := range []time.Duration{0, 0, 15 * s, 30 * s, 60 * s, 120 * s, 240 * s, 300 * s, 300 * s} {
		if got := ready.WaitAfter(short, ready.FirstWait); got != want {
			t.Errorf("after %d short lives: %v, want %v", short, got, want)
		}
	}
	if got := ready.WaitAfter(1<<40, ready.FirstWait); got != ready.LongestWait {
		t.Errorf("after very many: %v", got)
	}
	if got := ready.WaitAfter(2, time.Hour); got != ready.LongestWait {
		t.Errorf("with a long first wait: %v", got)
	}
}
