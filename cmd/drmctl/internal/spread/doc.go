// Package spread simulates how the resources of an app spread over its members, and how many of them move when members
// come and go. Nothing runs: it asks the real code (packages membership and shard) who owns what, and counts. So it can
// tell in seconds what a group of a thousand members and ten million resources would look like.
//
// spread.go is the run, group.go the group as it would be in etcd, and tally.go counts.
package spread
