package main

import (
	"os"
	"runtime/debug"
)

// heapGrowth is how far the heap of a process with members or an etcd in it may grow between two collections, in
// percent. Members and etcd make most garbage when a member takes over what another one had, which is when they must be
// quick. What they keep is small.
const heapGrowth = 200

// growHeap makes this process collect garbage half as often as Go's default, unless GOGC says how often.
func growHeap() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
}
