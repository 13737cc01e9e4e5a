// Package membership registers a member of an app in etcd, and follows who the members are. It can be used by itself:
// for members that share work by shards without the rest of DRM, and for programs that only ask which member owns an
// id.
//
// Open makes the Group of an app's members, and Find looks for one that exists. A Registrar registers a member: it puts
// a lease-bound key that names the member's state, weight and slots. Package lease keeps the lease alive.
//
// Everything that decides who owns a shard lies below one prefix, group/, which one list and one watch read. So a View
// is exact at one revision, and two members that look at the same revision agree. Group.Read and Group.Follow make
// Views. View.OwnerOf tells who owns an id, and is a pure function of the View (package shard does the arithmetic).
//
// A member is live when its key exists, its state is active, and no operator has ordered a drain of it. If every active
// member is drained, drains are ignored.
package membership
