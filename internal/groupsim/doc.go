// Package groupsim runs the group of an app under virtual time: who the members are, and which shard belongs to whom.
// It is test support. Views come from the real membership.NewView, registrations from the real membership.Registrar,
// the placement from the real placement.Publisher, and operators' orders from the real order.Desk. All of these talk to
// a model of etcd with revisions, transactions and leases. A model are the members' own steps (register, wait, join,
// leave), the times that things take, and who handles a shard.
//
// A Plan says everything that is to happen, and Run plays it. There is no goroutine, no clock and no map whose order
// matters, so one Plan always gives the same run. Draw makes a Plan from any source of choices: a random one, or rapid,
// which then shrinks a Plan that fails.
//
// At each revision, Run checks:
//
//   - The view is the same in whichever order the keys come, and each shard has one owner if anybody may own it.
//   - No pin, cordon, drain, weight of 0 or full member is disregarded where another member may own the shard.
//   - Each shard that changes its owner does so for a reason that concerns it: its owner before or after has come or
//     gone, or is under another order, or its exception has changed.
//   - What the coordinator writes is allowed by what it sees: no moves for balance while the group is unsettled, in a
//     rollout, or before it has been quiet; no shard twice in 10 minutes, no more than the budget, no more on its way
//     than may be; nothing to a member that must not have it; and of what a drained member keeps, only less.
//   - A member that is back in time after a stop with Rejoin finds its shards, and nothing else has moved.
//
// When the faults have ended, Run waits for as long as a correction may take. Then all drains have ended, no single
// move would make the load more even, and no exception is left that nobody needs. Without exceptions the ring's answer
// holds.
//
// A Group is the same without the processes of the members, which are part of another simulation (package sim) in the
// same virtual time. It is checked as above, except for the end.
//
// plan.go says what can happen, world.go is the clock, and store.go is etcd. The members are in member.go (what they
// see and send), membership.go (how they come, and keep their keys), leaving.go (how they stop, die, and are cut off),
// work.go (what they handle, and say of that) and coordinator.go, and operators in operator.go. check.go and the files
// with its name as a prefix judge. group.go has the Group.
package groupsim
