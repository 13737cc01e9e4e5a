// Package source asks the source of an app, and makes its answers the catalogue, while its member is the coordinator.
//
// A Source lives through all terms of a member. It makes the calls of the user's code: one Fetch and one OnError at a
// time, whatever the term. A Term is one term as coordinator: it fetches, tries again after a failure, asks again when
// the membership has settled, and records the outcome in etcd. If the member has no source, a term counts how long the
// app has had none.
//
// This package decides when the source is asked, whether an answer is refused because of its bad items, and what is
// recorded and logged. It does not decide who coordinates (the member), which removals are doubted and what is written
// (package catalogue), nor what an item of an answer must look like (the Retriever's Items).
package source
