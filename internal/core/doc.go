// Package core decides what one member does with the resources of its shards: claim, handle, update, terminate,
// release. It does no I/O, starts no goroutine and reads no clock. Events come in as method calls that carry the time.
// What must be done goes out as a list of actions, and the result of each action comes back as another event. So the
// same code runs under etcd and under a simulated store with virtual time.
//
// It is level-triggered. For each resource it keeps what etcd was last known to say (the catalogue's entry and the
// claim's key, each with its revision) and the state of this member (its claim, the call in progress, whether the
// handler has the resource). After every event, decide compares the two and names the one next step. So nothing depends
// on whether a certain event was seen, or on the order of events from different streams.
//
// The rules that it must never break:
//
//   - Handle is called only under a claim of this member whose lease is not fenced.
//   - A claim is released only when Terminate has returned, unless the handler never had the resource, or did not end
//     in time and the policy lets go of it.
//   - A resource has at most one thing in progress: a call, a claim or a release.
//   - A claim of this member that it does not want is never left behind, even if the answer that created it was lost:
//     the shard is followed, and the claim looked for, until it is certain that there is none.
//   - A claim whose release got no answer is not used again: it may be deleted at any time.
//   - A summary, which says of many claims that they are active, never stands for a claim that is not known to be
//     handled.
//   - Handle and Update begin only when etcd has a trail that lists their resource, so that a process that dies of it
//     leaves that behind. What is accused of two deaths is handled alone, and of QuarantineAfter deaths not at all.
//
// To read it: types.go has the words, decide.go the decision, queue.go the queues, results.go what follows from the
// results of claims, releases, calls and states, summary.go the summaries, lease.go the leases, and pace.go how fast
// resources are handed over. budget.go, gate.go and share.go have how often Handle may be called. trail.go has this
// member's trails, trailwrite.go how they get to etcd, ahead.go what they list before it begins, accuse.go those of
// members that have died, suspect.go how what they accuse is handled, and quarantine.go what becomes of a resource that
// is accused too often. resource.go and shard.go hold what is known.
//
// A Core is not safe for concurrent use: one goroutine drives it.
package core
