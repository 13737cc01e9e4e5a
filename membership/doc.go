// Package membership registers a member of an app in etcd, and follows who the members are.
//
// A member is a lease-bound key with its slots, weight and state (Register). Everything that decides who owns a shard
// lies below one prefix, group/, which is one list and one watch: so a View is exact at one revision, and two members
// that look at the same revision agree. View.Owner is a pure function of it (package shard does the arithmetic).
//
// Live means: the member's key is there, its state is active, and no operator has ordered it to be drained. If that
// leaves nobody, drains are ignored.
package membership
