package sim

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// TestSoak runs schedules that nobody has run before, for as long as SOAK says, and tells every 10 s how far it is.
func TestSoak(t *testing.T) {
	text := os.Getenv("SOAK")
	if text == "" {
		t.Skip("no duration in SOAK")
	}
	long, err := time.ParseDuration(text)
	if err != nil || long <= 0 {
		t.Fatalf("SOAK is %q, want a positive duration such as 10m", text)
	}
	first := rand.Uint64N(1 << 50)
	fmt.Printf("soak: %v, from seed %d on\n", long, first)
	start, told := time.Now(), time.Now()
	sum := explore(first, func(sum *summary) bool {
		if time.Since(told) > 10*time.Second {
			told = time.Now()
			fmt.Printf("soak: %v: %v\n", time.Since(start).Round(time.Second), *sum)
		}
		return time.Since(start) < long
	})
	fmt.Printf("soak: %v: %v\n", time.Since(start).Round(time.Second), sum)
	if sum.failed != nil {
		t.Fatal(sum.failed.report())
	}
}
