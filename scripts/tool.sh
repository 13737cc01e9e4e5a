#!/usr/bin/env bash
# tool.sh NAME [ARGS...]: runs a tool of tools/go.mod, at the version pinned there. It needs nothing but Go: the first
# use builds the tool (golangci-lint takes some minutes), later ones take it from Go's build cache.
set -euo pipefail

exec go tool -modfile="$(dirname "$0")/../tools/go.mod" "$@"
