// Package lease has the two things that a claim in etcd rests on: a lease that is known to be safe, and a writer of
// many conditional keys. It knows leases and keys, and not what they stand for, so it can be used without the rest of
// DRM.
//
// # Keeper
//
// A Keeper holds one lease: it sends the keepalives, and tells when its owner can no longer rely on the lease. That
// moment must come here before etcd gives the lease's keys away, and no two machines' clocks are compared for it. So
// the Keeper counts the lease's life from the moment before it sent a request, which is earlier than the moment from
// which etcd counts, and takes a margin off for clocks that run at different speeds (Gray and Cheriton, "Leases: an
// efficient fault-tolerant mechanism for distributed file cache consistency", SOSP 1989):
//
//	sent          answer                       fence      deadline   (etcd may expire the lease)
//	 |---------------|---------- … ---------------|-----------|----------|
//	 |                                            FenceLead     Margin   |
//	 |<------------------------------ TTL ------------------------------>|
//
// At the fence the owner begins to end everything that the lease guards (OnFence); at the deadline all of it must have
// ended (Context, OnDead). Each answered keepalive moves both moments. A fenced lease is never renewed again: once its
// owner has ended everything, it revokes the lease and gets a new one.
//
// # Writer
//
// A Writer puts and deletes keys under conditions: that a key does not exist, or is still the one that was created at
// some revision. It packs the writes that wait into few transactions, and tells the outcome of each.
package lease
