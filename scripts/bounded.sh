#!/usr/bin/env bash
# bounded.sh SECONDS COMMAND [ARGS...]: runs the command, and kills it with all its children, exit 124, when it takes
# longer. (timeout(1) is not everywhere where Go is.)
set -uo pipefail
set -m # each job below gets a process group of its own

seconds=$1
shift
"$@" &
child=$!
{
	sleep "$seconds"
	kill -KILL -- "-$child"
} >/dev/null 2>&1 &
watchdog=$!
wait "$child" 2>/dev/null
code=$?
# The watchdog is gone only if it had to act.
if kill -KILL -- "-$watchdog" 2>/dev/null; then
	exit "$code"
fi
exit 124
