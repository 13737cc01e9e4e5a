#!/usr/bin/env bash
# Runs `go test` in random order, with the race detector where there is one (see race.sh). Arguments go to `go test`.
# Without any, every package is tested, also those of examples/, which is a module of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

race=$(scripts/race.sh)
run() (
	set -x
	go test ${race:+"$race"} -shuffle=on -timeout="${TEST_TIMEOUT:-20m}" "$@"
)
if [ $# -gt 0 ]; then
	run "$@"
	exit
fi
code=0
# The packages that take longest begin first, so that none of them is left to run alone at the end.
run ./cmd/... ./internal/scenario ./internal/sim ./... || code=$?
cd examples
run ./... || code=$?
exit "$code"
