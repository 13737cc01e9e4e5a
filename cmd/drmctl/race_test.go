//go:build race

package main

// raceDetector makes times say nothing: everything is several times slower under it.
const raceDetector = true
