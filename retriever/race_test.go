//go:build race

package retriever_test

// raceDetector makes heavy tests do less, because everything is several times slower under the race detector.
const raceDetector = true
