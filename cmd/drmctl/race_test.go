//go:build race

package main

// raceDetector says that the race detector is on: everything is several times slower, so times prove nothing.
const raceDetector = true
