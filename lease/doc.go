// Package lease has the two things that a claim in etcd rests on: a lease of which the owner knows that it is still
// safe, and a writer of many conditional keys. The package does not know what the leases and keys stand for, so it can
// be used without the rest of DRM.
//
// # Keeper
//
// A Keeper holds one lease: it sends the keepalives, and tells its owner when the owner can no longer rely on the
// lease. The owner must learn that before etcd gives the lease's keys away, without any comparison of two machines'
// clocks. So the Keeper counts the lease's life from the moment before it sent a request, which is earlier than the
// moment from which etcd counts, and takes off a margin for clocks that run at different speeds (Gray and Cheriton,
// "Leases: an efficient fault-tolerant mechanism for distributed file cache consistency", SOSP 1989):
//
//	sent          answer                       fence      deadline   (etcd may expire the lease)
//	 |---------------|---------- … ---------------|-----------|----------|
//	 |                                            FenceLead     Margin   |
//	 |<------------------------------ TTL ------------------------------>|
//
// At the fence the owner begins to end everything that the lease guards (OnFence); by the deadline it must have ended
// all of it (Context, OnDead). Each answered keepalive moves both moments. A fenced lease is never renewed again: when
// its owner has ended everything, it revokes the lease and gets a new one.
//
// # Writer
//
// A Writer puts and deletes keys under conditions: that a key does not exist, or that it is still the one that was
// created at a given revision. It packs the writes that wait into few transactions, and tells the outcome of each
// write.
package lease
