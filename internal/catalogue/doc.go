// Package catalogue keeps the resources that should be handled in etcd: one entry a resource, written by Allocate and
// Deallocate from anywhere, and by the coordinator's Sync from what the source answered.
//
// An entry says who wants the resource. It goes when neither the source nor an allocation does. While the source has,
// or may have, an id that was deallocated, the entry stays, suspended, so that a fetch does not bring it back: only one
// that began afterwards and lacks the id removes it. A mark beside the catalogue lets the coordinator find suspended
// entries.
//
// Who wrote last wins by etcd's revisions, not by clocks: each write compares the revision of what it was decided on.
package catalogue
