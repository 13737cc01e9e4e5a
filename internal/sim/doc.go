// Package sim runs members around the real core.Core under virtual time: a simulated etcd, networks that lose and
// delay, processes that crash and pause, loops that are busy, logs that block, handlers that fail, panic, hang and
// never return, and receivers that get to their requests late. It is test support: it runs the real core, and
// everything around the core is a model of what a member does with etcd.
//
// A Plan says everything that is to happen, and Run plays it. There is no goroutine, no clock and no map to iterate,
// so one Plan always gives the same run. Draw makes a Plan from any source of choices: a random one, or rapid, which
// then shrinks a Plan that fails.
//
// After each step, Run checks:
//
//   - No two members handle a resource at once, except under KeepOnOutage, where one of them has been out of touch with
//     etcd for longer than its lease.
//   - Handle is called only under the newest claim.
//   - A resource has at most one call in progress, and each Terminate follows a Handle.
//   - The context of a handling has ended when its claim is released or known to be lost, and when another member
//     handles the resource.
//   - No summary calls a claim active whose resource is not handled.
//   - Receivers, where the handlers send their calls to such, run nothing that their member has ended.
//
// In half of the plans that Draw makes, the members are also those of a group of package groupsim, in the same virtual
// time: they start, die, stop, are paused and cut off in both as one. Then who owns what comes from real views, of
// which each member has its own, late and out of step with the others', and what a core is told of a view is decided by
// package outlook, as in a real member. In the other plans, owners are drawn, and each member hears of them late.
//
// When the faults of the Plan have ended (a lost event ends when its shard is due to be listed again), Run waits until
// every resource is handled where it should be and nowhere else, and nothing is left behind in etcd.
//
// plan.go says what can happen, world.go is the clock, and store.go is etcd. The members are in member.go (the loop),
// request.go (their requests to etcd), keeper.go (leases), watch.go (what they follow), calls.go (handlers) and
// receiver.go (what handlers may send their calls to). group.go joins the members with their group. check.go judges.
package sim
