// Package catalogue keeps in etcd the resources that should be handled: one entry for each resource. Allocate and
// Deallocate write entries from anywhere, and the coordinator's Sync writes what the source answered.
//
// An entry says who wants the resource. It is deleted when neither the source nor an allocation wants it. While the
// source has, or may have, an id that was deallocated, the entry stays and is suspended, so that a fetch does not bring
// the resource back: only a fetch that began afterwards and lacks the id removes the entry. A mark beside the catalogue
// lets the coordinator find suspended entries.
//
// The latest write wins by etcd's revisions, not by clocks: each write compares the revision of what it was decided on.
package catalogue
