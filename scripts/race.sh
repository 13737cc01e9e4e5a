#!/usr/bin/env bash
# Prints -race where the race detector can be built (it needs cgo and a C compiler). Elsewhere prints nothing, and
# says so in one line on stderr. With REQUIRE_RACE=1 its absence is an error.
set -euo pipefail

if why=$(go build -race runtime/cgo 2>&1); then
	echo "-race"
elif [ "${REQUIRE_RACE:-}" = 1 ]; then
	echo "race detector required (REQUIRE_RACE=1), but it cannot be built: ${why%%$'\n'*}" >&2
	exit 1
else
	echo "testing without the race detector: it needs cgo and a C compiler" >&2
fi
