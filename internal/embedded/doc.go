// Package embedded runs etcd in this process: one server (Start) or a cluster of several (StartCluster).
//
// It serves `drmctl etcd`, `drmctl demo` and the tests, which run against a real etcd and never a mock. Without any
// configuration, a server keeps its data in a temporary folder and listens on free loopback ports, so that any number
// of servers run side by side. Package embeddedtest has helpers for tests, which clean up by themselves.
package embedded
