package main

import (
	"os"
	"runtime/debug"
)

// heapGrowth is how far the heap of a process with members or etcd in it may grow between two collections, in percent. Both are
// in a hurry when a member takes over what another one had, and that is when they make the most garbage; what they keep is small.
const heapGrowth = 200

// growHeap has this process collect garbage half as often as Go's default, unless GOGC says how often.
func growHeap() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
}
