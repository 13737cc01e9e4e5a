package core

import (
	"testing"
	"unsafe"
)

// A member may know a million resources. 256 is a size class of Go's allocator; the next one is 288.
func TestAResourceIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(resource{}); size > 256 {
		t.Errorf("a resource takes %d bytes, want at most 256", size)
	}
}
