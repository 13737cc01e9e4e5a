// Package house tests how the module is built: which package may import which (layers_test.go), and that a caller from
// outside can name every type that a public package mentions (exported_test.go). It has no code of its own.
package house
