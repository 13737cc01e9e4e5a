#!/usr/bin/env bash
# bounded.sh SECONDS COMMAND [ARGS...]: runs the command. When it takes longer, kills it with all its children, and
# exits with 124. (Not every machine that has Go has timeout(1).)
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
# The watchdog has ended by now only if it had to act.
if kill -KILL -- "-$watchdog" 2>/dev/null; then
	exit "$code"
fi
exit 124
