// Package sim runs members around the real core.Core under virtual time: a simulated etcd, networks that lose and
// delay, processes that crash and pause, loops that are busy, logs that block, handlers that fail, panic, hang and
// never return, and receivers that get to their requests late. It is test support: what it runs is the core; all
// around it is a model of what package drm does with etcd.
//
// A Plan says everything that is to happen, and Run plays it. There is no goroutine, no clock and no map to iterate,
// so one Plan always gives one run. Draw makes a Plan from any source of choices: a random one, or rapid, which then
// shrinks a Plan that fails.
//
// After each step, Run checks that no resource is handled by two members at once (but for one that is out of touch
// with etcd for longer than its lease, under KeepOnOutage), that Handle is called only under the newest claim, that a
// resource has one call in progress, that each Terminate has its Handle, that no context of a handling is alive when
// its claim is released, known to be lost, or another member handles, and that no summary tells of what is not
// handled. Where the handlers send their calls to receivers, it checks what those run: nothing that their member has
// ended. When the faults of the Plan have ended (of an event that a watch lost: when the shard is due to be listed
// again), it waits until every resource is handled where it should be and nowhere else, and nothing is left behind in
// etcd.
//
// To read it: plan.go says what can happen, world.go is the clock, store.go is etcd, and the members are in member.go
// (the loop), request.go (what they ask of etcd), keeper.go (leases), watch.go (what they follow), calls.go
// (handlers) and receiver.go (what handlers may send their calls to). check.go judges.
package sim
