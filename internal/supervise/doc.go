// Package supervise runs a command, which is a member of an app, and revokes the member's leases as soon as the command
// and all of its children are surely gone. So others have its resources at once, instead of after a TTL.
//
// Run starts the command, passes signals on, ends what the command leaves behind, and starts it again. A Revoker has
// the connection to etcd. Package leaselink is how the members tell which leases they have; docs/run.md tells what
// users may rely on.
package supervise
