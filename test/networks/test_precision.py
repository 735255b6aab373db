"""Which arithmetic a name stands for, and where it is refused."""

from __future__ import annotations

import pytest
import torch

from ov3d_perception import llvm_code
from ov3d_perception.errors import Ov3dError
from ov3d_perception.networks import precision
from ov3d_perception.networks.precision import PRECISIONS, choose
from ov3d_perception.sparse import kernels

CPU, CALIBRATED = torch.device("cpu"), (1.0, 2.0)


@pytest.mark.parametrize(
    ("features", "pays"),
    [
        ({"avx512bf16": False}, False),
        ({"avx512bf16": True}, True),
        ({"avx512bf16": True, "amx-bf16": True}, False),
        ({"avx512bf16": True, "avx512vl": False, "avx2": True, "fma": True}, False),
    ],
)
def test_where_bfloat16_is_the_automatic_choice(
    features: dict[str, bool], pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"avx512f": True, "avx512vl": True} | features
    monkeypatch.setattr(llvm_code.binding, "get_host_cpu_features", lambda: known)
    machine = llvm_code.host.__wrapped__()
    monkeypatch.setattr(kernels, "host", lambda: machine)
    assert choose("auto", CPU, "auto", ()).dtype == (torch.bfloat16 if pays else torch.float32)


@pytest.mark.parametrize("able", [False, True])
def test_bytes_are_the_automatic_choice_of_a_calibrated_network(able: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "multiplies_bytes", lambda: able)
    assert choose("auto", CPU, "auto", CALIBRATED).largest == (CALIBRATED if able else ())
    assert choose("auto", CPU, "torch", ()).largest == ()
    assert choose("auto", CPU, "minkowski", CALIBRATED).largest == ()
    assert choose("auto", torch.device("cuda"), "auto", CALIBRATED) == (torch.bfloat16, ())
    assert choose("auto", CPU, "auto", CALIBRATED).dtype == choose("auto", CPU, "auto", ()).dtype


@pytest.mark.parametrize("name", PRECISIONS)
def test_floats_that_are_asked_for_are_taken(name: str) -> None:
    assert choose(name, CPU, "auto", CALIBRATED) == (PRECISIONS[name], ())


def test_precisions_have_their_users_names() -> None:
    assert [str(choose(name, CPU, "auto", ())) for name in PRECISIONS] == list(PRECISIONS)
    assert str(precision.Precision(torch.float32, CALIBRATED)) == "int8"


def test_int8_is_refused_where_it_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "multiplies_bytes", lambda: True)
    assert choose("int8", CPU, "auto", CALIBRATED).largest == CALIBRATED
    with pytest.raises(Ov3dError, match=r"not calibrated.*ov3d checkpoint calibrate"):
        choose("int8", CPU, "auto", ())
    with pytest.raises(Ov3dError, match="on cuda by auto"):
        choose("int8", torch.device("cuda"), "auto", CALIBRATED)
    with pytest.raises(Ov3dError, match="on cpu by minkowski"):
        choose("int8", CPU, "minkowski", CALIBRATED)
    monkeypatch.setattr(precision, "multiplies_bytes", lambda: False)
    with pytest.raises(Ov3dError, match=r"no instructions.*Choose precision auto"):
        choose("int8", CPU, "auto", CALIBRATED)


def test_unknown_precision() -> None:
    with pytest.raises(Ov3dError, match=r"int3.*Choose auto, int8, fp32 or bf16"):
        choose("int3", CPU, "auto", ())
