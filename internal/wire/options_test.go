package wire

import "testing"

// clientv3 appends to the options of a call: were there room behind those that all calls share, two calls would write
// to it.
func TestOptionsHaveNoRoomBehindThem(t *testing.T) {
	for name, opts := range map[string]int{"Options": cap(Options) - len(Options), "Lean": cap(Lean) - len(Lean)} {
		if opts != 0 {
			t.Errorf("%s has room for %d more", name, opts)
		}
	}
}
