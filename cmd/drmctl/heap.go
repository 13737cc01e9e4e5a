package main

import (
	"os"
	"runtime/debug"
)

// heapGrowth is how far the heap of a process with members in it may grow between two collections, in percent. A member is
// in a hurry when it takes over what another one had, and that is when it makes the most garbage; what it keeps is small.
const heapGrowth = 200

// growHeap has this process collect garbage half as often as Go's default, unless GOGC says how often.
func growHeap() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
}
