"""3D-OVS's equations against slow loops and hand-computed values."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ov3d_perception.methods import ovs3d
from ov3d_perception.methods.ovs3d import Ovs3dOptions, PatchBatch, RayBatch, losses

TEXT = torch.nn.functional.normalize(torch.tensor([[1.0, 0.2, 0], [0, 1, 0.1], [0.3, 0, 1]]), dim=1)


def unit(*shape: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape), dim=-1)


def batches() -> tuple[RayBatch, PatchBatch]:
    torch.manual_seed(0)
    scales = torch.softmax(torch.randn(5, 2), 1)
    feature = torch.randn(5, 3, requires_grad=True)
    rays = RayBatch(torch.rand(5, 3), torch.rand(5, 3), feature, scales, unit(5, 2, 3), torch.rand(5, 2, 3))
    return rays, PatchBatch(torch.randn(2, 4, 3, requires_grad=True), torch.randn(2, 4, 6))


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(x * x for x in b))


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(v) for v in values]
    return [p / sum(powers) for p in powers]


def js(p: list[float], q: list[float]) -> float:
    """As printed in equations (8) and (11): two divergences from the mean."""
    total = 0.0
    for a, b in zip(p, q, strict=True):
        m = (a + b) / 2
        total += (a * math.log(a / m) + b * math.log(b / m)) / 2
    return total


def slow_supervision(rays: RayBatch) -> tuple[float, float]:
    """Equation (3), means over rays: colours (mean over channels, too) and minus the cosines."""
    assert rays.colour is not None and rays.wanted is not None
    colours, cosines = 0.0, 0.0
    for r in range(5):
        colours += sum((float(rays.colour[r, k]) - float(rays.wanted[r, k])) ** 2 for k in range(3)) / 3
        chosen = [sum(float(rays.scales[r, s] * rays.teacher[r, s, d]) for s in range(2)) for d in range(3)]
        cosines += cosine(rays.feature[r].tolist(), chosen)
    return colours / 5, -cosines / 5


def slow_rda(rays: RayBatch, free_length: bool = False) -> float:
    """Equations (4), (5) and (8)."""
    total = 0.0
    for r in range(5):
        length = float(rays.feature[r].norm()) if free_length else 1.0
        p = softmax([length * cosine(rays.feature[r].tolist(), TEXT[c].tolist()) for c in range(3)])
        q = softmax([sum(float(rays.scales[r, s] * rays.relevancy[r, s, c]) for s in range(2)) for c in range(3)])
        total += js(p, q)
    return total / 5


def slow_fda(patches: PatchBatch, options: Ovs3dOptions) -> float:
    """Equations (9) to (14), pair by pair."""
    sums, counts, plain = {True: 0.0, False: 0.0}, {True: 0, False: 0}, 0.0
    for n in range(2):
        sharp = []
        for i in range(4):
            z = [cosine(patches.feature[n, i].tolist(), TEXT[c].tolist()) for c in range(3)]
            sharp.append(softmax([value / options.tau for value in z]))
        for i in range(4):
            for j in range(4):
                above = cosine(patches.dino[n, i].tolist(), patches.dino[n, j].tolist()) - options.b
                divergence = js(sharp[i], sharp[j])
                sums[above > 0] += above * divergence
                counts[above > 0] += 1
                plain += above * divergence
    if options.form == "plain":
        return options.positive * plain / 32
    return options.positive * sums[True] / counts[True] + options.negative * sums[False] / counts[False]


def test_losses_are_the_equations() -> None:
    rays, patches = batches()
    options = Ovs3dOptions(relevancy=0.7, b=0.3)
    found = losses(rays, patches, TEXT, options)
    colours, cosines = slow_supervision(rays)
    assert list(found) == ["colour", "feature", "rda", "fda"]
    assert float(found["colour"]) == pytest.approx(colours, abs=1e-6)
    assert float(found["feature"]) == pytest.approx(cosines, abs=1e-6)
    assert float(found["rda"]) == pytest.approx(0.7 * slow_rda(rays), abs=1e-6)
    assert float(found["fda"]) == pytest.approx(slow_fda(patches, options), rel=1e-4)


def test_the_releases_probabilities_have_the_features_length() -> None:
    rays, _ = batches()
    found = losses(rays, None, TEXT, Ovs3dOptions(free_length=True))["rda"]
    assert float(found) == pytest.approx(slow_rda(rays, free_length=True), abs=1e-6)
    assert abs(slow_rda(rays, free_length=True) - slow_rda(rays)) > 1e-3


def test_ablations_leave_out_what_they_say() -> None:
    rays, patches = batches()
    plain = Ovs3dOptions(form="plain", b=0.3)
    assert float(losses(rays, patches, TEXT, plain)["fda"]) == pytest.approx(slow_fda(patches, plain), rel=1e-4)
    assert list(losses(rays, patches, TEXT, Ovs3dOptions(relevancy=0, form="none"))) == ["colour", "feature"]
    even = RayBatch(None, None, rays.feature, torch.full((5, 2), 0.5), rays.teacher, rays.relevancy)
    without = losses(rays, None, TEXT, Ovs3dOptions(selection=False))
    assert without["feature"] == losses(even, None, TEXT, Ovs3dOptions())["feature"]
    assert list(losses(even, None, TEXT, Ovs3dOptions())) == ["feature", "rda"]


def test_divergence_of_known_distributions() -> None:
    p, q = torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([[0.0, 1.0], [0.5, 0.5]])
    assert ovs3d.js_divergence(p, q).tolist() == pytest.approx([math.log(2), 0.0], abs=1e-6)


def test_relevancies_are_stretched_for_each_image_scale_and_class() -> None:
    maps = torch.tensor([[[0.2, 5.0], [0.4, 5.0], [0.3, 7.0]]])
    wanted = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.5, 1.0]]])
    torch.testing.assert_close(ovs3d.normalised(maps), wanted)
    assert bool((ovs3d.normalised(torch.ones(2, 3, 1)) == 0).all())  # a map without any difference


def test_gradients_are_those_of_the_slow_loops() -> None:
    torch.manual_seed(1)
    feature = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    dino, text = torch.randn(2, 3, 4, dtype=torch.float64), TEXT.double()

    def fda(x: Tensor) -> Tensor:
        sharp = torch.softmax(ovs3d.logits(x, text) / 0.2, -1)
        corr_d = ovs3d.distribution_correlation(sharp)
        return ovs3d.fda_loss(ovs3d.correlation(dino), corr_d, Ovs3dOptions(b=0.2))

    assert torch.autograd.gradcheck(fda, (feature,))
