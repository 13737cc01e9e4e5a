// Package core decides what one member does with the resources of its shards: claim, handle, update, terminate,
// release. It does no I/O, starts no goroutine and reads no clock: events come in as method calls that carry the time,
// what is to be done goes out as a list of actions, and what became of them comes back as further events. So the same
// code runs under etcd and under a simulated store with virtual time.
//
// It is level-triggered. For each resource it keeps what etcd was last known to say (the catalogue's entry and the
// claim's key, each with its revision) and what is true here (the claim held, the call in progress, whether the handler
// has the resource). After every event, decide compares the two and names the one next step; nothing depends on an
// event having been seen, or on the order of events from different streams.
//
// The rules it must never break:
//
//   - Handle is called only under a claim of this member whose lease is not fenced.
//   - A claim is released only when Terminate has returned, unless the handler never had the resource or would not end
//     in time and the policy lets go of it.
//   - One resource has at most one call and one claim or release in progress.
//   - A claim that is ours but not wanted is never left behind, even if the answer that created it was lost: the shard is
//     followed, and the claim looked for, until it is certain that there is none.
//   - A claim whose release got no answer is not used again: it may go at any time.
//   - A summary, which says of many claims that they are active, never stands for one that is not known to be handled.
//
// A Core is not safe for concurrent use: one goroutine drives it.
package core
