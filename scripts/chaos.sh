#!/usr/bin/env bash
# Puts real processes (drmctl agent, etcd) through real faults on loopback, and prints what was measured as the table of
# docs/guarantees.md. Fails on any overlap (except after changes by hand), any lost resource and any token that fell.
# Everything takes about 23 minutes. SHORT=1 takes about 4: it leaves some out, and runs several at once, so that its table
# tells less of how long things take. It runs without the race detector, which would distort the times.
set -euo pipefail
cd "$(dirname "$0")/.."

table=$(mktemp)
trap 'rm -f "$table"' EXIT
form=long
if [ "${SHORT:-}" = 1 ]; then
	form=short
fi
code=0
DRM_CHAOS=$form DRM_CHAOS_TABLE=$table go test -run='^TestChaos$' -count=1 -timeout=30m "$@" ./cmd/drmctl || code=$?
cat "$table"
exit "$code"
