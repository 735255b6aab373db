#!/bin/sh
# Create the virtual environment: setup_venv.sh <folder> [python].
# Finds a Python 3.10 to 3.13 with headers and a compiler. What is missing is named with the command that brings it; as
# root on Debian or Ubuntu that command is run (a bare container has no one to ask).
set -eu

venv=$1
python=${2:-}

fail() {
    printf 'setup: %s\n' "$1" >&2
    exit 1
}

usable() { # Is $1 an interpreter of a version that the ROS 2 wheels and torch have in common?
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

missing() { # Print the Debian packages that this machine lacks, for $python.
    "$python" -c 'import ensurepip, venv' 2>/dev/null || printf ' python3-venv'
    "$python" - <<'PY' || printf ' python3-dev'
import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))
PY
    command -v c++ >/dev/null && command -v cc >/dev/null || printf ' build-essential'
}

[ "$(uname -sm)" = "Linux x86_64" ] ||
    fail "ROS 2 comes as wheels for Linux x86_64 only, this is $(uname -sm). Use apt and colcon: docs/install.md."

if [ -z "$python" ]; then
    for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
        if command -v "$candidate" >/dev/null && usable "$candidate"; then
            python=$candidate
            break
        fi
    done
fi
[ -n "$python" ] || fail "no Python 3.10 to 3.13 on PATH. Install one, or name it: make PYTHON=/path/to/python3.13"
usable "$python" || fail "$python is not a Python 3.10 to 3.13. Name another: make PYTHON=/path/to/python3.13"

packages=$(missing)
if [ -n "$packages" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "setup: installing$packages"
        apt-get update -qq
        # shellcheck disable=SC2086  # a list of packages
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages
    fi
    packages=$(missing)
    [ -z "$packages" ] || fail "$python lacks something to build with. Run: sudo apt-get install$packages
       (for a Python that is not the system's own, its own -venv and -dev packages, such as python3.13-dev)"
fi

# Another venv's ROS wheels announce themselves to child processes; ours must start up by itself.
unset _ROS_WHEELS_BOOTSTRAP_COMPLETE PYTHONPATH
"$python" -m venv "$venv"
