#!/bin/sh
# Writes made-up access lines with the present time until it is stopped.
# usage: tools/feed.sh [LINES_PER_SECOND]
set -eu

lines=${1:-5}
number=0
while :; do
    count=0
    while [ "$count" -lt "$lines" ]; do
        number=$((number + 1))
        count=$((count + 1))
        printf '%s 10.0.0.%s GET /page/%s 200\n' \
            "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$((number % 7 + 1))" "$number"
    done
    sleep 1
done
