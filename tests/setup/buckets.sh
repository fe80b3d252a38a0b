#!/bin/sh
# Prints the folders with emulators of object stores, for PATH: moto and gcp-storage-emulator (PyPI),
# azurite (npm). Installs them below the build folder first, if that is allowed: as root, or with
# MOAT_SETUP=1. What cannot be had is said; its test says SKIP.
set -u

root=$(cd "$(dirname "$0")/../.." && pwd)
folder=${CARGO_TARGET_DIR:-$root/target}/buckets

if [ "$(id -u)" = 0 ] || [ "${MOAT_SETUP:-}" = 1 ]; then
    mkdir -p "$folder/npm"
    if [ ! -x "$folder/venv/bin/moto_server" ]; then
        { python3 -m venv "$folder/venv" && "$folder/venv/bin/python" -m pip install -q \
            --disable-pip-version-check 'moto[server]'; } >&2 ||
            echo "moto could not be installed" >&2
    fi
    if [ ! -x "$folder/venv/bin/gcp-storage-emulator" ]; then
        "$folder/venv/bin/python" -m pip install -q --disable-pip-version-check \
            gcp-storage-emulator >&2 || echo "gcp-storage-emulator could not be installed" >&2
    fi
    if [ ! -x "$folder/npm/node_modules/.bin/azurite-blob" ]; then
        { command -v npm > /dev/null && npm --silent --prefix "$folder/npm" install azurite; } >&2 ||
            echo "azurite could not be installed (needs npm)" >&2
    fi
else
    echo "emulators of object stores are not installed: run as root, or with MOAT_SETUP=1" >&2
fi
echo "$folder/venv/bin:$folder/npm/node_modules/.bin"
