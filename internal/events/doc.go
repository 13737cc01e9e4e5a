// Package events tells what happens in an app, from the changes of its keys in etcd. A Decoder turns the changes of one
// revision into events, each of an enumerated Kind; it makes no requests of its own. A Feed follows etcd's history, and
// what is new, with a Decoder, from one revision on; where etcd has compacted what it is to tell, it tells of the gap,
// and then everything that there is.
//
// An event never has the data of a resource.
package events
