#!/bin/sh
# Prints the path of a Python that can run the peers of tests (PyPI: aiohttp, jsonschema,
# referencing, openai). Makes one under the build folder first, if that is allowed: as root, or
# with MOAT_SETUP=1. Otherwise says why not on stderr and exits with 3 ("skip").
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
venv=${CARGO_TARGET_DIR:-$root/target}/peers
python=$venv/bin/python
probe='import aiohttp, jsonschema, referencing, openai'

skip() {
    echo "$1" >&2
    exit 3
}

ready() {
    [ -x "$python" ] && "$python" -c "$probe" 2>/dev/null
}

if ! ready; then
    command -v python3 >/dev/null || skip "python3 is not installed"
    [ "$(id -u)" = 0 ] || [ "${MOAT_SETUP:-}" = 1 ] ||
        skip "the Python packages aiohttp, jsonschema, referencing and openai are missing; MOAT_SETUP=1 installs them into $venv"
    mkdir -p "$venv"
    # Several test programs may want it at the same moment.
    exec 9>"$venv/.lock"
    flock 9
    if ! ready; then
        python3 -m venv "$venv" >&2 || skip "python3 cannot make a virtual environment (Debian: python3-venv)"
        "$python" -m pip install -q --disable-pip-version-check \
            aiohttp jsonschema referencing openai >&2 || skip "pip could not install the packages"
        ready || skip "the packages were installed but cannot be imported"
    fi
fi
echo "$python"
