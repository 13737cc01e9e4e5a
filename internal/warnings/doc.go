// Package warnings decides what an operator should be warned of, by what was read of an app and of etcd, and which
// command mends it. It is pure: package picture reads the app, and package etcd asks the cluster.
package warnings
