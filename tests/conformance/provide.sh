#!/usr/bin/env bash
# Put the Autobahn Testsuite in place: a virtualenv of Python 2.7, the last one that it runs on.
# Silent when it is there; otherwise it installs it, or says in one line why it cannot, and fails.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/plane_tx
# tests/conformance/suite.py looks for it under the same name: other pins, another place.
suite=$cache/autobahntestsuite-$(sha256sum <"$here/requirements.txt" | cut -c 1-12)
# The last virtualenv that makes environments for Python 2.7; any Python 3 runs it.
virtualenv=virtualenv==20.21.1

say() { printf 'provision: %s\n' "$*"; }

is_2_7() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null; }

find_2_7() {
    local python
    for python in "$(command -v python2.7)" "${HOME:-}"/.pyenv/versions/2.7.*/bin/python; do
        if [ -n "$python" ] && is_2_7 "$python"; then
            echo "$python"
            return
        fi
    done
    say "no Autobahn Testsuite: it needs a Python 2.7, found neither on PATH nor in ~/.pyenv" >&2
    return 1
}

quietly() {
    local log=$cache/autobahntestsuite.log
    "$@" >"$log" 2>&1 9>&- || { say "that failed: $(tail -n 1 "$log") (all of it: $log)"; return 1; }
}

install_suite() {
    local python2=$1 python3=$here/../../.venv/bin/python tools=$cache/virtualenv
    [ -x "$python3" ] || python3=python3
    say "installing the Autobahn Testsuite (once, about a minute) ..."
    rm -rf "$suite" "$tools"
    quietly "$python3" -m pip install --target "$tools" "$virtualenv"
    quietly env PYTHONPATH="$tools" "$python3" -m virtualenv --python "$python2" "$suite"
    rm -rf "$tools"
    quietly env -u PYTHONPATH "$suite/bin/python" -m pip install --requirement "$here/requirements.txt"
    touch "$suite/installed"
}

main() {
    [ ! -e "$suite/installed" ] || return 0
    mkdir -p "$cache"
    exec 9>"$cache/autobahntestsuite.lock"
    ! command -v flock >/dev/null || flock 9
    [ ! -e "$suite/installed" ] || return 0
    local python2
    python2=$(find_2_7)
    install_suite "$python2"
}

main
