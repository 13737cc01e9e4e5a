// Package lease has the two things that a claim in etcd rests on: a lease that is known to be safe, and a writer of many
// conditional keys. It knows leases and keys, not what they stand for.
//
// # Keeper
//
// A Keeper holds one lease: it sends the keepalives, and tells when the lease can no longer be relied on. That moment
// must come here before etcd gives the lease's keys away, without comparing two machines' clocks. So life is counted
// from the moment before a request was sent, which is earlier than the moment from which etcd counts, and a margin is
// taken off for clocks that run at different speeds (Gray and Cheriton, "Leases: an efficient fault-tolerant mechanism
// for distributed file cache consistency", SOSP 1989):
//
//	sent          answer                       fence      deadline   (etcd may expire the lease)
//	 |---------------|---------- … ---------------|-----------|----------|
//	 |                                            FenceLead     Margin   |
//	 |<------------------------------ TTL ------------------------------>|
//
// At the fence the owner begins to end all that the lease guards (OnFence); at the deadline it must have ended
// (Context, OnDead). Each answered keepalive moves both. A fenced lease is never renewed again: once its owner has ended
// everything, it revokes the lease and gets a new one.
//
// # Writer
//
// A Writer puts and deletes keys under conditions: that a key does not exist, or still is the one that was created at
// some revision. It packs what is waiting into few transactions, and tells for each key what came of it.
package lease
