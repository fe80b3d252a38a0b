#!/bin/sh
# Prints the folder of the npm package pnpm, which one test runs inside a sandbox. Installs it below
# the build folder first, if that is allowed: as root, or with MOAT_SETUP=1. Otherwise says why not on
# stderr and exits with 3 ("skip").
set -u

root=$(cd "$(dirname "$0")/../.." && pwd)
folder=${CARGO_TARGET_DIR:-$root/target}/pnpm
package=$folder/node_modules/pnpm

skip() {
    echo "$1" >&2
    exit 3
}

if [ ! -f "$package/bin/pnpm.cjs" ]; then
    [ -x /usr/bin/node ] || skip "node is not at /usr/bin/node, where sandboxes see it"
    command -v npm > /dev/null || skip "npm is not installed"
    [ "$(id -u)" = 0 ] || [ "${MOAT_SETUP:-}" = 1 ] ||
        skip "the npm package pnpm is missing; MOAT_SETUP=1 installs it into $folder"
    mkdir -p "$folder"
    # The last one for Node.js 18 and 20.
    npm --silent --prefix "$folder" install pnpm@10 >&2 || skip "npm could not install pnpm"
fi
echo "$package"
