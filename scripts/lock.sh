#!/bin/sh
# Write constraints.txt: one version of everything that pip installs, for Python 3.10 to 3.14 on Linux x86_64.
# Versions already in it are kept where they still fit; pass --upgrade for the newest, or --upgrade-package <name>.
set -eu
cd "$(dirname "$0")/.."
export UV_CUSTOM_COMPILE_COMMAND='make lock'
uv pip compile setup.py --extra all --universal --python-version 3.10 --output-file constraints.txt \
    --no-annotate "$@"
