//go:build !race

package retriever_test

const raceDetector = false
