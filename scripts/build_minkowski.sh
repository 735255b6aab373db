#!/bin/sh
# MinkowskiEngine 0.5.4 for the CPU, built from PyPI's source into a virtual environment: the numerical oracle of
# ov3d_perception.sparse, and its peer in benchmarks/sparse.py. Upstream ships no wheels.
#   sh scripts/build_minkowski.sh [VENV]      the default is .venv
# About four minutes on two cores; the wheel is kept for this Python and torch in ${XDG_CACHE_HOME:-~/.cache}/ov3d/wheels
# and the next time takes seconds. Needs a C++ compiler and OpenBLAS's headers; as root on Debian or Ubuntu it installs
# them.
set -eu

fail() {
    printf 'minkowski: %s\n' "$1" >&2
    exit 1
}

venv=$(cd "${1:-.venv}" 2>/dev/null && pwd) || fail "there is no virtual environment ${1:-.venv}. Make one: make setup"
python=$venv/bin/python
constraints=$(cd "$(dirname "$0")/.." && pwd)/constraints.txt

works() { # Does it load beside the torch that is there now, and convolve?
    "$python" -W ignore - <<'PY'
import collections, collections.abc
collections.Sequence = collections.abc.Sequence
import MinkowskiEngine, torch

x = MinkowskiEngine.SparseTensor(torch.ones(1, 1), torch.zeros(1, 4, dtype=torch.int32))
assert MinkowskiEngine.MinkowskiConvolution(1, 1, kernel_size=3, dimension=3)(x).F.shape == (1, 1)
PY
}

missing() { # Print the Debian packages that this machine lacks. The library is needed to run, too.
    # By the library: cblas.h may be another BLAS's.
    find /usr/lib /usr/lib64 /usr/local/lib -name libopenblas.so 2>/dev/null | grep -q . || printf ' libopenblas-dev'
    command -v c++ >/dev/null || printf ' g++'
}

works 2>/dev/null && exit

packages=$(missing)
if [ -n "$packages" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "minkowski: installing$packages"
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of packages
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages
    packages=$(missing)
fi
[ -z "$packages" ] || fail "something to build with is missing. Run: sudo apt-get install$packages"

tag=$("$python" -c 'import sys, torch; print(f"{sys.implementation.cache_tag}-torch-{torch.__version__}")')
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ov3d/wheels/$tag
if ! ls "$cache"/*.whl >/dev/null 2>&1; then
    echo "minkowski: building for $tag, about four minutes"
    "$python" -m pip install --quiet --constraint "$constraints" setuptools wheel ninja
    mkdir -p "$cache"
    new=$(mktemp -d "$cache/new.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    # Its setup.py calls the first pip on the PATH, and older pips hand it the settings only with --use-pep517.
    PATH=$venv/bin:$PATH MAX_JOBS=${MAX_JOBS:-$(nproc)} CFLAGS=-g0 CXXFLAGS=-g0 CUDA_HOME="" \
        "$python" -m pip wheel --quiet --no-cache-dir --use-pep517 --no-build-isolation --no-deps --wheel-dir "$new" \
        --config-settings=--global-option=--blas=openblas --config-settings=--global-option=--cpu_only \
        MinkowskiEngine==0.5.4
    mv "$new"/*.whl "$cache"
fi
"$python" -m pip install --quiet --no-deps --force-reinstall "$cache"/*.whl
works || fail "it does not work here. Remove $cache and build it anew"
