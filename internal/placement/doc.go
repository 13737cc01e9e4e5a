// Package placement is what the coordinator does so that load is even, and so that little moves when members come and
// go: it publishes exceptions to the ring, one small key for each shard. The ring's answer holds without them.
//
// A Planner decides, and is pure: it takes views, what the members say that their shards weigh, and the time, and
// returns the writes that are due. All that has to outlive a coordinator is in etcd: the exceptions with their times,
// and what drained members still keep. A Term reads and writes etcd for it while this member is the coordinator.
package placement
