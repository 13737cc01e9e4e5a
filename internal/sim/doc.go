// Package sim runs members around the real core.Core under virtual time: a simulated etcd, networks that lose and delay,
// processes that crash and pause, handlers that fail, panic and hang. It is test support: what it runs is the core; all
// around it is a model of what package drm does with etcd.
//
// A Plan says everything that is to happen, and Run plays it. There is no goroutine, no clock and no map to iterate, so
// one Plan always gives one run. Draw makes a Plan from any source of choices: a random one, or rapid, which then shrinks
// a Plan that fails.
//
// After each step, Run checks that no resource is handled by two members at once (but for one that is out of touch with
// etcd for longer than its lease, under KeepOnOutage), that Handle is called only under the newest claim, that a
// resource has one call in progress, that each Terminate has its Handle, and that no summary tells of what is not handled.
// When the faults of the Plan have ended (of an event that a watch lost: when the shard is due to be listed again), it
// waits until every resource is handled where it should be and nowhere else, and nothing is left behind in etcd.
//
// To read it: plan.go says what can happen, world.go is the clock, store.go is etcd, and the members are in member.go
// (requests), keeper.go (leases), watch.go (what they follow) and calls.go (handlers). check.go judges.
package sim
