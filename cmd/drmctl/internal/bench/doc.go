// Package bench measures DRM against etcd itself. Every figure that has a goal is a ratio of two things measured in one
// run on one etcd, so that it means the same on a slow machine and on a fast one; seconds are told besides.
//
// Each bench has a file of its own. bench.go lists them; lab.go is what they share: an etcd, members with a handler
// that only counts, a catalogue that is filled by hand; raw.go is the baseline that they are held against; wire.go is a
// member's connection, which counts what passes, and can be cut.
package bench
