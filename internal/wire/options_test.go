package wire

import "testing"

// clientv3 appends to the options of a call. If the shared options had spare capacity, two calls would write to the
// same memory.
func TestOptionsHaveNoRoomBehindThem(t *testing.T) {
	for name, opts := range map[string]int{"Options": cap(Options) - len(Options), "Lean": cap(Lean) - len(Lean)} {
		if opts != 0 {
			t.Errorf("%s has room for %d more", name, opts)
		}
	}
}
