"""The loops of a live scan and of a training step, compiled for processors that are not here: the code that LLVM makes
is theirs, and it works on whole vectors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch
from llvmlite import binding

from ov3d_perception import llvm_code
from ov3d_perception.llvm_code import Host
from ov3d_perception.networks.live import LiveNetwork
from ov3d_perception.networks.registry import build_network
from ov3d_perception.sparse import (
    SparseTensor,
    blocks,
    compiling,
    kernel_gradient,
    kernels,
    layer_code,
    neighbours,
    norm_code,
    unique,
)


class Machine(NamedTuple):
    """A processor. multiply: its multiplication and addition of vectors; too_wide: registers that it has not."""

    triple: str
    cpu: str
    features: str
    host: Host
    multiply: str
    too_wide: str


MACHINES = {
    "AVX2": Machine("x86_64-unknown-linux-gnu", "haswell", "", Host(8, 16, False), r"vfmadd\w+ps\s.*%ymm", r"%zmm"),
    "AVX-VNNI": Machine(
        "x86_64-unknown-linux-gnu", "alderlake", "", Host(8, 16, False, True), r"vfmadd\w+ps\s.*%ymm", r"%zmm"
    ),
    "Jetson Orin": Machine(
        "aarch64-unknown-linux-gnu", "cortex-a78", "+neon", Host(4, 32, False), r"fmla\s+v\d+\.4s", r"\bz\d+\."
    ),
}


def forget() -> None:
    """All compiled functions are written anew."""
    for room in (blocks, kernel_gradient, kernels, layer_code, neighbours, norm_code, unique):
        for name in vars(room):
            if hasattr(thing := getattr(room, name), "cache_clear"):
                thing.cache_clear()


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """LLVM's programs, by function, of a network run as a plan and of a training step, written for another machine."""
    written: dict[str, str] = {}
    cached = llvm_code.cached

    def noted(source: str, make: object) -> bytes:
        _, _, program = source.partition("\n")
        found = re.search(r'ModuleID = "(\w+)"', program)
        assert found is not None
        written[found[1]] = program
        return cached(source, make)  # type: ignore[arg-type]

    if request.param.host.dot_bytes and not kernels.multiplies_bytes():
        pytest.skip("no instructions for products of bytes")
    monkeypatch.setattr(llvm_code, "cached", noted)
    monkeypatch.setattr(compiling, "version", lambda: None)  # programs are written whether code is there or not
    monkeypatch.setattr(kernels, "host", lambda: request.param.host)
    forget()
    generator = torch.Generator().manual_seed(0)
    coords = torch.randint(0, 40, (2000, 4), generator=generator)
    coords[:, 0] = 0
    coords = coords.unique(dim=0)
    feats = torch.randn(len(coords), 3, generator=generator)
    network = build_network("MinkUNet14A", 3, 16, 0.25)
    try:
        for dtype in (torch.float32, torch.bfloat16):
            LiveNetwork(network.eval(), torch.device("cpu"), dtype)(SparseTensor(feats.to(dtype), coords))
        if request.param.host.dot_bytes:
            LiveNetwork(network, torch.device("cpu"), torch.float32, [1.0] * 25)(SparseTensor(feats, coords))
        network.train()(SparseTensor(feats, coords)).feats.sum().backward()
        yield written
    finally:
        forget()


def assembly(program: str, machine: Machine) -> str:
    """As LLVM compiles for the machine."""
    module = binding.parse_assembly(re.sub(r'target triple = ".*"', f'target triple = "{machine.triple}"', program))
    target = binding.Target.from_triple(machine.triple).create_target_machine(
        cpu=machine.cpu, features=machine.features, opt=3
    )
    passes = binding.create_pass_builder(target, binding.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(module, passes)
    return str(target.emit_assembly(module))


@pytest.mark.parametrize(
    ("programs", "machine"), [(m, m) for m in MACHINES.values()], indirect=["programs"], ids=MACHINES
)
def test_compiles_to_vectors(programs: dict[str, str], machine: Machine) -> None:
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    layers = [name for name in programs if "layer" in name]
    assert len(layers) > 3 and len(programs) > len(layers) + 6
    for name, program in programs.items():
        made = assembly(program, machine)
        assert not re.search(machine.too_wide, made), name
        calls = re.findall(r"\s(?:callq?|bl)\s+(\w+)", made)
        assert set(calls) <= {"memset", "memcpy"}, (name, calls)
        if name in layers or "kernel_gradient" in name:
            multiply = r"vpdpbusd\s.*%ymm" if "_i8_4_" in name else machine.multiply
            assert len(re.findall(multiply, made)) >= 8, name
    assert any("_i8_4_" in name for name in layers) == machine.host.dot_bytes
