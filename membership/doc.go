// Package membership registers a member of an app in etcd, and follows who the members are. It can be used by itself:
// by members that share work by shards without the rest of DRM, and by programs that only ask which member owns an id.
//
// Open makes the Group of an app's members and creates the app if need be; Find makes the Group of an app that exists.
// A Registrar registers a member: it puts a key that lives on a lease and says the member's state, weight and slots.
// Package lease keeps the lease alive.
//
// Everything that decides who owns a shard lies below one prefix, group/, which one list and one watch read. So a View
// is exact at one revision, and two members that look at the same revision agree. Group.Read and Group.Follow make
// Views. View.OwnerOf tells who owns an id, and depends on nothing but the View (package shard does the arithmetic).
//
// A member is live when its key exists, its state is active, and no operator has ordered a drain of it. If every active
// member has a drain, the drains are ignored. A member whose state is unready is not live either: it cannot work for
// now, and comes back by itself. If too few members are ready, unreadiness is ignored.
package membership
