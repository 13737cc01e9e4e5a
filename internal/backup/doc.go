// Package backup dumps an app, loads a dump into an empty app, and deletes an app.
//
// A dump has all keys of an app as they were at one revision, as lines of JSON. Loading it restores what does not live
// on a lease: the catalogue, quarantine, the operators' orders, and what keeps the placement, so that members with the
// same ids get the same shards. It does not restore members and claims, nor what accuses their processes of anything.
//
// While an app is loaded or deleted, nobody can open it: the config key has a barrier in its place (package appconfig),
// and a key beside it, the marker, says what is in progress. Each write compares the marker, so that a process that was
// stopped for a while writes nothing into an app that is used again. What was interrupted can be begun anew.
package backup
