//go:build race

package retriever_test

// raceDetector makes tests that are heavy take less: everything is several times slower under it.
const raceDetector = true
