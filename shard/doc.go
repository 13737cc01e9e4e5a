// Package shard decides which member a resource belongs to. It is pure: the same input gives the same answer on every
// member, whatever its version, so members that see the same group agree without talking to each other.
//
// The way from a resource to a member has three steps:
//
//	resource id --Of--> shard --Ring--> slot --> member
//
// A shard is one of a fixed number of parts of all resources (1,024 by default). A slot is a numbered place that a
// member has reserved (Reserve); a member of weight w has w slots. A slot keeps its number while its member is away, so
// the ring moves little: when a member leaves, only its own shards move; when a member joins, only the shards that it
// gets; and a member that comes back under its id gets back exactly what it had.
//
// Hashing alone leaves the members unequally loaded. A Planner finds the shards that are better off elsewhere, starting
// from the placement in force; the coordinator publishes them as exceptions to the ring (docs/balance.md). Package
// membership puts everything together: an operator's pins, the exceptions, and the ring.
//
// The answers of Of and Ring are part of what members agree on. If they changed, members of different versions would
// disagree about who owns what, so a golden test keeps them as they are.
package shard
