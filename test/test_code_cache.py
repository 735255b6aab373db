"""Compiled code on disk: made once, made again where the file is damaged, and no condition for anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ov3d_perception import code_cache, llvm_code
from ov3d_perception.llvm_code import LONG, WORD


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OV3D_CACHE", str(tmp_path))
    return tmp_path / "code"


def test_made_once_for_each_source(cache: Path) -> None:
    made: list[str] = []
    for source in ("a", "b", "a"):

        def make(source: str = source) -> bytes:
            made.append(source)
            return f"code of {source}".encode()

        assert code_cache.cached(source, make) == f"code of {source}".encode()
    assert made == ["a", "b"] and len(list(cache.iterdir())) == 2


@pytest.mark.parametrize(
    "damage", [lambda stored: stored[:-1], lambda stored: b"", lambda stored: stored[:40] + b"?" + stored[41:]]
)
def test_a_damaged_file_is_made_again(cache: Path, damage: object) -> None:
    code = bytes(range(100))
    code_cache.cached("a", lambda: code)
    (path,) = cache.iterdir()
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert code_cache.cached("a", lambda: code) == code
    assert code_cache.cached("a", lambda: pytest.fail("not stored")) == code


def test_without_a_place_for_it_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    for place in (blocked, blocked / "below", Path("/proc/nowhere")):
        monkeypatch.setenv("OV3D_CACHE", str(place))
        assert code_cache.cached("a", lambda: b"code") == b"code"
    monkeypatch.setenv("OV3D_CACHE", str(tmp_path))
    (tmp_path / "code").touch()  # no folder
    assert code_cache.cached("a", lambda: b"code") == b"code"


SUM = """
import sys
import numpy as np
from ov3d_perception import llvm_code
from ov3d_perception.llvm_code import LONG, WORD

def write(code):
    out, values, count = code.fn.args
    with code.loop(0, count) as k:
        code.store(code.add(code.load(out), code.load(code.at(values, k))), out)

if sys.argv[1] == "stored":
    llvm_code._Compiler.object_code = None
add = llvm_code.compiled("add_up", [WORD, WORD, LONG], write)
values, out = np.arange(10, dtype=np.int32), np.zeros(1, np.int32)
add(out.ctypes.data, values.ctypes.data, len(values))
print(out[0])
"""


def test_the_next_process_runs_what_this_one_has_compiled(cache: Path) -> None:
    for word in ("made", "stored"):
        done = subprocess.run([sys.executable, "-c", SUM, word], capture_output=True, text=True, env=os.environ)
        assert done.stdout.strip() == "45", done.stderr


def test_another_processor_is_another_source(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(code: llvm_code.Code) -> None:
        out, value, _ = code.fn.args
        code.store(code.load(value), out)

    values = np.array([7, 0], np.int32)
    for identity in ("this processor", "another"):
        monkeypatch.setattr(llvm_code._compiler(), "identity", identity)
        llvm_code.compiled("copy", [WORD, WORD, LONG], write)(values.ctypes.data + 4, values.ctypes.data, 0)
        assert values[1] == 7
    assert len(list(cache.iterdir())) == 2


def test_no_address_of_a_process_is_in_the_code(cache: Path) -> None:
    """Else each process would compile, and store, the same anew."""
    for _ in range(2):
        code = "from ov3d_perception.sparse import steps; steps.runner()"
        subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
    assert len(list(cache.iterdir())) == 1


EVERY = """
import re
import torch
from ov3d_perception import llvm_code
from ov3d_perception.networks.live import LiveNetwork
from ov3d_perception.networks.minkunet import MinkUNet
from ov3d_perception.sparse import SparseTensor, kernels

names, make = [], llvm_code._Compiler.object_code

def object_code(compiler, program):
    names.extend(re.findall(r'ModuleID = "(.+)"', program))
    return make(compiler, program)

llvm_code._Compiler.object_code = object_code
coords = torch.nn.functional.pad(torch.randint(0, 64, (900, 3)).unique(dim=0), (1, 0))
for width in (0.1, 0.75):
    network, feats = MinkUNet("MinkUNet14A", 2, 12, width), torch.rand(len(coords), 2)
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            network(SparseTensor(feats, coords)).feats.sum().backward()
    largest = (1.0,) * 25 if kernels.multiplies_bytes() else ()
    for dtype, most in ((torch.float32, ()), (torch.bfloat16, ()), (torch.float32, largest)):
        LiveNetwork(network.eval(), torch.device("cpu"), dtype, most)(SparseTensor(feats.to(dtype), coords))
    network.train()
print(len(names), len(set(names)))
"""


def test_a_name_is_one_program_and_is_not_written_again(cache: Path) -> None:
    """A process compiles each variant once; so a name that it compiles twice would be that of two variants."""
    found = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", EVERY], capture_output=True, text=True, env=os.environ)
        assert done.returncode == 0, done.stderr
        found.append([int(count) for count in done.stdout.split()])
    (compiled, names), again = found
    assert compiled == names > 30 and again == [0, 0]
