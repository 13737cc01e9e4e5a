#!/usr/bin/env bash
# Fuzzes every fuzz target of the module for FUZZ_TIME (10s) each.
set -euo pipefail
cd "$(dirname "$0")/.."

grep -rlE --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do
	sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' "$file" | while read -r target; do
		echo "== $file $target" >&2
		go test "$(dirname "$file")" -run='^$' -fuzz="^$target\$" -fuzztime="${FUZZ_TIME:-10s}" </dev/null
	done
done
