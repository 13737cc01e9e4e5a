#!/usr/bin/env bash
# Checks everything that can be checked without running the code: golangci-lint (which includes staticcheck and the
# format), the other platforms, go.mod, and known vulnerabilities.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { echo "== $*" >&2; }

step "golangci-lint"
scripts/tool.sh golangci-lint run ./...
(cd examples && ../scripts/tool.sh golangci-lint run ./...)

# A test may sleep only in virtual time.
step "no sleeping in tests"
if sleepers=$(grep -rl --include='*_test.go' 'time\.Sleep(' . | xargs grep -L '"testing/synctest"' | grep .); then
	echo "time.Sleep, without testing/synctest:" "$sleepers" >&2
	exit 1
fi

for os in darwin windows; do
	step "go vet for $os"
	GOOS=$os CGO_ENABLED=0 go vet ./...
	(cd examples && GOOS=$os CGO_ENABLED=0 go vet ./...)
done

# For this, go needs the modules that the tests of our dependencies use. Without the network it may not have them.
for module in . examples; do
	step "go.mod of $module is tidy"
	if ! diff=$(cd "$module" && go mod tidy -diff 2>/dev/null); then
		if [ -n "$diff" ]; then
			echo "$diff"
			exit 1
		fi
		echo "go.mod not checked: some modules cannot be downloaded" >&2
	fi
done

step "govulncheck"
scripts/vuln.sh
