// Package scenario has no code of its own. Its tests run whole groups of members on real etcd servers in this process,
// use them as a program does that imports the module, and check what a user can observe: which handler was called when,
// what a client sees, what is in etcd, and what is logged.
//
// The beginning of a file's name tells its subject:
//
//   - group, member, start, stop: members that come, go, hang and die
//   - call: what a handler may do, and how it is called
//   - source: what a retriever may do, and what follows from its answers
//   - etcd: what may happen to etcd and to the way there
//   - keys, claims, leases: what may happen to the keys below an app's prefix
//   - client, drain, verify: what operators do and see
//   - ready: members that say that they cannot work
//   - log: what is logged, and what must not be
//   - original: the behaviour of the library for Node that this one replaces
//   - stage: what the tests share
//
// The tests that share a file's helper are in that file where possible. What many need is on the stage:
// stage_world_test.go starts members and clients on one etcd; stage_recorder_test.go is a handler that fails the test
// as soon as two members handle one resource, stage_ledger_test.go one that measures it instead; stage_source_test.go
// is a retriever whose answer a test sets; stage_requests_test.go sees each request to etcd and can spoil it.
package scenario
