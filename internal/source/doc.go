// Package source asks the source of an app, and makes its answers the catalogue, while its member is the coordinator.
//
// A Source is what lives through all terms of a member: the calls of the user's code, one Fetch and one OnError at a
// time, whatever the term. A Term is one term as coordinator: it fetches, tries again, asks anew when the membership
// has settled, and records in etcd what came of it. Where the member has no source, a term counts for how long nobody
// had one.
//
// Decided here: when the source is asked, whether an answer is refused because of its bad items, what is recorded and
// told. Not decided here: who coordinates (the member), which removals are doubted and what is written (package
// catalogue), and what an item of an answer must look like (the Retriever's Items).
package source
