#!/usr/bin/env bash
# Looks for known vulnerabilities in what the code calls. It needs the database at vuln.go.dev (or $GOVULNDB). Where
# that is out of reach, it says so in one line and succeeds. REQUIRE_VULN=1 makes that an error.
set -euo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT

code=0
scripts/bounded.sh "${VULN_SECONDS:-120}" scripts/tool.sh govulncheck ./... >"$log" 2>&1 </dev/null || code=$?

unreachable='fetching vulnerabilities|vuln\.go\.dev|HTTP GET'
if [ "$code" = 0 ] || [ "$code" = 3 ]; then
	cat "$log"
	exit "$code"
elif [ "$code" = 124 ] || grep -qE "$unreachable" "$log"; then
	echo "govulncheck skipped: the vulnerability database did not answer" >&2
	[ "${REQUIRE_VULN:-}" != 1 ]
else
	cat "$log" >&2
	exit "$code"
fi
