"""A training step run as a plan gives what it gives layer by layer."""

from __future__ import annotations

import contextlib
import copy
import gc
import weakref
from collections.abc import Callable
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from ov3d_perception.networks.registry import Network, build_network
from ov3d_perception.sparse import SparseTensor, training_plan
from ov3d_perception.sparse.recording import UntraceableError, record
from ov3d_perception.sparse.training_plan import TrainingPlan


def network(arch: str = "MinkUNet14A") -> Network:
    torch.manual_seed(0)
    return build_network(arch, 3, 16, 0.25).train()


def cloud(count: int = 3000, reach: int = 20, shuffled: bool = False, seed: int = 0) -> SparseTensor:
    generator = torch.Generator().manual_seed(seed)
    coords = torch.randint(-reach, reach, (count, 4), generator=generator)
    coords[:, 0] = coords[:, 0].remainder(2)
    coords[:, 3] = coords[:, 3].div(8, rounding_mode="floor")
    coords = coords.unique(dim=0)
    if shuffled:
        coords = coords[torch.randperm(len(coords), generator=generator)]
    return SparseTensor(torch.randn(len(coords), 3, generator=generator), coords)


def fresh(x: SparseTensor) -> SparseTensor:
    """On a manager without kernel maps."""
    return SparseTensor(x.feats, x.coords)


def layer_by_layer() -> object:
    return patch.object(training_plan, "_wanted", lambda _: False)


def step(made: nn.Module, x: SparseTensor) -> Tensor:
    """Forward and backward; the features."""
    out: Tensor = made(fresh(x)).feats
    (out * torch.linspace(-1, 2, out.numel()).view_as(out).sin()).sum().backward()
    return out.detach()


def gradients(made: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in made.named_parameters() if p.grad is not None}


def freeze_statistics(made: nn.Module) -> None:
    for module in made.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 2.0)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("arch", "kept"), [("MinkUNet14A", False), ("MinkUNet18A", False), ("MinkUNet14A", True)])
def test_equals_layer_by_layer(arch: str, kept: bool, threads: int) -> None:
    ours, x = network(arch), cloud(shuffled=arch == "MinkUNet18A")
    if kept:
        freeze_statistics(ours)
    theirs, before = copy.deepcopy(ours), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with patch.object(TrainingPlan, "backward", autospec=True, side_effect=TrainingPlan.backward) as ran:
            found = step(ours, x)
        with layer_by_layer():  # type: ignore[attr-defined]
            expected = step(theirs, x)
    finally:
        torch.set_num_threads(before)
    assert ran.call_count == 1
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert gradients(ours).keys() == gradients(theirs).keys()
    assert len(gradients(ours)) == len(list(ours.parameters())) - 1  # the head is not in forward
    for name, grad in gradients(theirs).items():
        assert (gradients(ours)[name] - grad).norm() <= 1e-4 * grad.norm(), name
    for name, buffer in theirs.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), buffer, rtol=1e-5, atol=1e-6)


def test_weights_after_some_steps_are_those_of_layer_by_layer() -> None:
    results = []
    for run in (layer_by_layer, contextlib.nullcontext):
        made = network()
        optimiser = torch.optim.SGD(made.parameters(), lr=0.01, momentum=0.9)
        with run():  # type: ignore[attr-defined]
            for seed in range(4):
                optimiser.zero_grad()
                made(cloud(count=1500, seed=seed)).feats.square().mean().backward()
                optimiser.step()
        results.append(made.state_dict())
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("pays", [True, False])
@pytest.mark.parametrize("arch", ["MinkUNet14A", "MinkUNet18A"])
def test_under_autocast_as_near_to_float32_as_layer_by_layer(
    arch: str, pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Products are of bfloat16 where that pays; else all is float32, which is faster there than layer by layer."""
    monkeypatch.setattr(training_plan.kernels, "halves_pay", lambda: pays)
    x, found = cloud(shuffled=arch == "MinkUNet18A"), {}
    ways = {
        "exact": (contextlib.nullcontext, False),
        "ours": (contextlib.nullcontext, True),
        "theirs": (layer_by_layer, True),
    }
    for name, (how, half) in ways.items():
        made = network(arch)
        with how(), torch.autocast("cpu", torch.bfloat16, enabled=half):  # type: ignore[attr-defined]
            out = step(made, x).float()
        found[name] = [out, *gradients(made).values()]
    errors = {
        name: [float((one - right).norm() / right.norm()) for one, right in zip(of, found["exact"], strict=True)]
        for name, of in found.items()
    }
    if not pays:
        assert max(errors["ours"]) < 1e-5
        return
    assert 1e-4 < errors["ours"][0] < errors["theirs"][0]
    assert sum(errors["ours"]) < 1.2 * sum(errors["theirs"]), errors


def test_the_same_to_the_bit_with_any_number_of_threads() -> None:
    before, found, x = torch.get_num_threads(), [], cloud(count=20000, reach=40)
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            made = network()
            step(made, x)
            found.append(gradients(made))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(grad, found[0][name]) for other in found[1:] for name, grad in other.items())


def test_two_clouds_of_one_step_have_gradients_of_both() -> None:
    made = network()
    first, second = (made(cloud(seed=seed)).feats for seed in (1, 2))
    (first.sum() + second.square().sum()).backward()
    both = {name: grad.clone() for name, grad in gradients(made).items()}
    made = network()
    made(cloud(seed=1)).feats.sum().backward()
    made(cloud(seed=2)).feats.square().sum().backward()
    for name, grad in gradients(made).items():
        torch.testing.assert_close(both[name], grad, rtol=1e-4, atol=1e-4 * float(grad.abs().max()))


def test_a_gradient_is_computed_once() -> None:
    out = network()(cloud(count=300)).feats.sum()
    out.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        out.backward()


def test_changed_weights_are_noticed() -> None:
    made = network()
    out = made(cloud(count=300)).feats.sum()
    with torch.no_grad():
        next(made.parameters()).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


def no_gradients_of_some(made: nn.Module) -> None:
    next(made.parameters()).requires_grad_(False)


def a_hook(made: nn.Module) -> None:
    next(m for m in made.modules() if isinstance(m, nn.BatchNorm1d)).register_forward_hook(lambda *_: None)


def another_norm(made: nn.Module) -> None:
    made.bn1.bn = nn.BatchNorm1d(made.bn1.bn.num_features, affine=False)  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize("change", [no_gradients_of_some, a_hook, another_norm])
def test_runs_layer_by_layer_where_no_plan_is_for(change: Callable[[nn.Module], None]) -> None:
    made, x = network(), cloud(count=300)
    step(made, x)
    made.zero_grad()
    change(made)
    theirs = copy.deepcopy(made)
    with patch.object(TrainingPlan, "forward", side_effect=AssertionError("a plan was run")):
        step(made, x)
    with layer_by_layer():  # type: ignore[attr-defined]
        step(theirs, x)
    for name, grad in gradients(theirs).items():
        assert torch.equal(grad, gradients(made)[name])


def test_too_few_voxels_are_refused_as_without_a_plan() -> None:
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        network()(cloud(count=1))


def test_replaced_modules_are_recorded_anew() -> None:
    made, x = network(), cloud(count=300)
    step(made, x)
    other = nn.BatchNorm1d(made.bn1.bn.num_features)  # type: ignore[union-attr, arg-type]
    made.bn1.bn = other  # type: ignore[union-attr]
    step(made, x)
    assert other.weight.grad is not None and int(other.get_buffer("num_batches_tracked")) == 1


def test_a_network_is_not_kept_by_its_plan() -> None:
    made = network()
    step(made, cloud(count=300))
    known = weakref.ref(made)
    del made
    gc.collect()
    assert known() is None


def test_a_result_without_use_is_refused() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: SparseTensor) -> SparseTensor:
            self.inner(x)
            made: SparseTensor = self.inner(x)
            return made

    with pytest.raises(UntraceableError, match="not used"):
        TrainingPlan(record(Unused(), 3, torch.float32))
