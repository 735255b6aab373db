"""Rays through fields whose pictures are known: by slow loops, and by formulas for a ball and a plane."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ov3d_perception.fields import composite
from ov3d_perception.fields.field import FieldSettings, RadianceField, faded
from ov3d_perception.fields.grid import VMGrid
from ov3d_perception.fields.march import MarchSettings, _compiled, _dense
from ov3d_perception.fields.rays import Ndc, Rays, camera_rays, spans
from ov3d_perception.types import Camera

BOX = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])


def rays_at(origins: Tensor, directions: Tensor) -> Rays:
    directions = functional.normalize(directions, dim=1)
    return Rays(origins, directions, directions)


def test_compiled_march_finds_the_samples_of_the_plain_one() -> None:
    torch.manual_seed(0)
    grid = VMGrid((9, 8, 7), (8, 4, 4), 0.6)
    occupied = (torch.rand(3, 4, 5) > 0.4).to(torch.uint8)
    origins = torch.rand(50, 3) * 12 - 3
    directions = functional.normalize(torch.randn(50, 3), dim=1)
    reach = torch.stack([torch.rand(50), torch.rand(50) * 9 + 1], 1)
    offsets = torch.rand(50)
    settings = MarchSettings(step=0.4, shift=-0.2, scale=0.8, limit=2.0)
    fast = _compiled(grid, occupied, (origins, directions), reach, offsets, settings)
    plain = _dense(grid, occupied, (origins, directions), reach, offsets, settings)
    assert 50 < len(fast) < 50 * 9 / 0.4 / 2
    assert torch.equal(fast.ray, plain.ray)
    for name in ("points", "t", "sums"):
        torch.testing.assert_close(getattr(fast, name), getattr(plain, name), atol=1e-5, rtol=1e-5)


def test_weights_are_equation_one() -> None:
    depth = torch.tensor([0.1, 0.5, 2.0, 0.3, 0.0, 1.0], requires_grad=True)
    ray = torch.tensor([0, 0, 0, 2, 2, 3])
    found = composite.weights(depth, ray, 5)
    wanted = []
    for r in range(5):
        through = 1.0
        for value, owner in zip(depth.tolist(), ray.tolist(), strict=True):
            if owner == r:
                alpha = 1 - math.exp(-value)
                wanted.append(through * alpha)
                through *= 1 - alpha
    torch.testing.assert_close(found, torch.tensor(wanted))
    double = depth.detach().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda d: composite.weights(d, ray, 5), (double,))


def test_sums_over_rays() -> None:
    values = torch.arange(8.0).reshape(4, 2)
    found = composite.over_rays(values, torch.tensor([0, 0, 2, 2]), 3)
    assert found.tolist() == [[2, 4], [0, 0], [10, 12]]


def even_field(size: int, density: float) -> RadianceField:
    """Density everywhere the same: one channel of ones carries it."""
    field = RadianceField(FieldSettings((4, 4, 4), (4, 4, 4), activation="relu", shift=0.0), (size,) * 3, BOX)
    for grid in field.density.grids:
        grid.data.zero_()
    field.density.planes[0].data[..., 0] = density
    field.density.lines[0].data[..., 0] = 1.0
    return field


def test_quantiles_of_rays_are_where_their_weight_is_reached() -> None:
    """By hand: a surface at 3 with a little fog before and behind; nothing; fog all along."""
    ray = torch.tensor([0, 0, 0, 2, 2, 2, 2])
    t = torch.tensor([1.0, 3.0, 9.0, 1.0, 2.0, 3.0, 4.0])
    weight = torch.tensor([0.1, 0.8, 0.1, 0.2, 0.2, 0.2, 0.2])
    low, middle, high = (composite.quantile(weight, t, ray, 3, share) for share in (0.25, 0.5, 0.75))
    assert low.tolist() == [3.0, 0.0, 1.0] and middle.tolist() == [3.0, 0.0, 2.0] and high.tolist() == [3.0, 0.0, 3.0]
    mean = composite.over_rays((weight * t)[:, None], ray, 3)[0, 0]
    assert mean > 3.3, "which lies behind the surface"


def test_a_ball_of_even_density_is_as_opaque_as_its_chord_is_long() -> None:
    field = even_field(33, 0.1)
    cells = 64
    middle = (torch.arange(cells) + 0.5) / cells * 2 - 1
    z, y, x = torch.meshgrid(middle, middle, middle, indexing="ij")
    field.occupied = (x**2 + y**2 + z**2 < 0.49).to(torch.uint8)
    heights = torch.tensor([0.0, 0.2, 0.4, 0.6, 0.65])
    origins = torch.stack([torch.full((5,), -3.0), heights, torch.full((5,), 0.01)], 1)
    looked = field.look(rays_at(origins, torch.tensor([[1.0, 0, 0]]).expand(5, 3)))
    chord = 2 * (0.49 - heights**2 - 1e-4).sqrt()
    absorbed = 0.1 * field.settings.thickness / float(field.unit)  # for each unit of length
    torch.testing.assert_close(looked.opacity, 1 - torch.exp(-absorbed * chord), atol=0.04, rtol=0.0)
    torch.testing.assert_close(looked.depth / looked.opacity, 3 - chord / 2 + 0.25, atol=0.25, rtol=0.0)


def test_light_samples_are_left_out_where_that_is_asked() -> None:
    """In even fog a sample weighs a constant part of what comes through to it, so the first ones are kept."""
    field = even_field(33, 0.1)
    rays = rays_at(torch.tensor([[-3.0, 0.1, 0.2]]), torch.tensor([[1.0, 0, 0]]))
    whole = field.look(rays)
    limit = float(whole.weight.detach().median())
    some = field.look(rays, weight=limit)
    kept = whole.weight > limit
    assert 0 < kept.sum() < len(kept)
    torch.testing.assert_close(some.weight, whole.weight[kept])
    torch.testing.assert_close(some.samples.t, whole.samples.t[kept])
    torch.testing.assert_close(some.opacity, whole.opacity)
    torch.testing.assert_close(field.look(rays, weight=1e-9).weight, whole.weight)  # the settings' own is more


def test_samples_are_filled_up_to_whole_blocks_without_a_change() -> None:
    torch.manual_seed(0)
    field = RadianceField(FieldSettings((4, 4, 4), (4, 4, 4), features=5, hidden=8, shift=-2.0), (9, 9, 9), BOX)
    rays = rays_at(torch.tensor([[-2.0, 0.1, 0.2], [0.3, -2.0, -0.2]]), torch.tensor([[1.0, 0, 0], [0, 1.0, 0.1]]))
    grids = [field.density.planes[1], field.appearance.lines[2], field.colour.layers[0].weight]
    plain, looked = field.render(rays, 0.3)
    wanted = torch.autograd.grad(plain.square().sum(), grids)
    filled, whole = field.render(rays, 0.3, block=64)
    assert len(looked.weight) % 64 and len(whole.weight) % 64 == 0 and len(whole.weight) == len(whole.samples)
    torch.testing.assert_close(filled, plain)
    for found, gradient in zip(torch.autograd.grad(filled.square().sum(), grids), wanted, strict=True):
        torch.testing.assert_close(found, gradient)
    away = rays_at(torch.tensor([[-2.0, 5.0, 0.2]]), torch.tensor([[1.0, 0, 0]]))
    assert len(field.look(away, block=64).weight) == 0


def test_near_the_camera_gradients_are_faded_and_values_are_not() -> None:
    t = torch.tensor([0.5, 1.0, 2.0, 3.0])
    values = torch.tensor([3.0, -1.0, 4.0, 2.0], requires_grad=True)
    found = faded(values, t, 2.0)
    torch.testing.assert_close(found, values)
    found.sum().backward()
    torch.testing.assert_close(values.grad, torch.tensor([1 / 16, 1 / 4, 1.0, 1.0]))


def test_a_field_far_from_the_camera_is_rendered_and_trained_as_without_fading() -> None:
    torch.manual_seed(0)
    field = RadianceField(FieldSettings((4, 4, 4), (4, 4, 4), features=5, hidden=8, shift=-2.0), (9, 9, 9), BOX)
    rays = rays_at(torch.tensor([[-4.0, 0.1, 0.2]]), torch.tensor([[1.0, 0, 0]]))
    grids = [field.density.planes[1], field.appearance.lines[2]]
    pictures = [field.render(rays, 0.3, fade=fade)[0] for fade in (0.0, 2.5, 50.0)]
    plain, far, near = (torch.autograd.grad(picture.square().sum(), grids) for picture in pictures)
    for a, b, c in zip(plain, far, near, strict=True):
        torch.testing.assert_close(a, b)
        assert 0 < float(c.norm()) < 0.05 * float(a.norm())
    assert torch.equal(pictures[0], pictures[2])


def test_a_textured_plane_is_seen_where_it_is() -> None:
    """A slab behind z = 0.5 whose appearance grows with x."""
    field = even_field(41, 0.0)
    slab = torch.zeros(41)
    slab[30:] = 400.0  # opaque within a step
    field.density.planes[0].data[..., 0] = 1.0
    field.density.lines[0].data[:, 0] = slab
    for grid in field.appearance.grids:
        grid.data.zero_()
    field.appearance.planes[0].data[..., 0] = torch.linspace(0, 1, 41)[None]
    field.appearance.lines[0].data[..., 0] = 1.0
    x = torch.linspace(-0.9, 0.9, 7)
    origins = torch.stack([x, torch.full((7,), 0.3), torch.full((7,), -0.9)], 1)
    looked = field.look(rays_at(origins, torch.tensor([[0.0, 0, 1.0]]).expand(7, 3)))
    torch.testing.assert_close(looked.depth, torch.full((7,), 1.35), atol=0.06, rtol=0.0)
    summed = composite.over_rays(
        looked.weight[:, None] * field.appearance(looked.samples.points), looked.samples.ray, 7
    )
    torch.testing.assert_close(summed[:, 0], (x + 1) / 2, atol=1e-3, rtol=0.0)


def test_colours_gradients_are_those_of_small_changes() -> None:
    torch.manual_seed(0)
    field = RadianceField(
        FieldSettings((4, 4, 4), (4, 4, 4), features=5, hidden=8, shift=-2.0, weight=0.0), (5, 5, 5), BOX
    )
    rays = rays_at(torch.tensor([[-2.0, 0.1, 0.2], [0.3, -2.0, -0.2]]), torch.tensor([[1.0, 0, 0], [0, 1.0, 0.1]]))
    target = torch.rand(2, 3)

    def loss() -> Tensor:
        return (field.render(rays, 0.3)[0] - target).square().sum()

    loss().backward()
    for parameter in (field.density.planes[0], field.density.lines[2], field.appearance.planes[1], field.basis.weight):
        gradient = parameter.grad
        assert gradient is not None
        place = int(gradient.abs().argmax())
        with torch.no_grad():
            flat, eps = parameter.view(-1), 1e-2
            flat[place] += eps
            more = loss()
            flat[place] -= 2 * eps
            less = loss()
            flat[place] += eps
        assert float((more - less) / (2 * eps)) == pytest.approx(float(gradient.view(-1)[place]), rel=0.05, abs=1e-5)


def test_where_rays_enter_and_leave_a_box() -> None:
    rays = rays_at(torch.tensor([[-3.0, 0, 0], [0, 0, 0], [-3.0, 5, 0]]), torch.tensor([[1.0, 0, 0]] * 3))
    found = spans(rays, BOX, 0.05)
    torch.testing.assert_close(found[:2], torch.tensor([[2.0, 4.0], [0.05, 1.0]]))
    assert found[2, 0] == found[2, 1]


def test_device_coordinates_keep_lines_straight_and_come_back() -> None:
    ndc = Ndc(np.eye(4, dtype=np.float32), (0.5, 0.4), 2.0)
    rays = rays_at(torch.tensor([[0.1, -0.2, 0.3]]), torch.tensor([[0.2, 0.1, 1.0]]))
    warped = ndc.warp(rays)
    assert float(warped.origins[0, 2]) == pytest.approx(-1.0)  # the near plane
    on_the_way = warped.origins + 1.3 * warped.directions
    back = ndc.to_world(on_the_way) - rays.origins
    torch.testing.assert_close(functional.normalize(back, dim=1), rays.directions)


def test_rays_of_a_camera_go_through_its_pixels() -> None:
    K = np.array([[10.0, 0, 2], [0, 10, 1], [0, 0, 1]])
    T = np.eye(4)
    T[:3, 3] = 1, 2, 3
    rays = camera_rays(Camera("c", 5, 3, K), T)
    torch.testing.assert_close(rays.directions[5 + 2], torch.tensor([0.0, 0.0, 1.0]))
    torch.testing.assert_close(rays.directions[4], functional.normalize(torch.tensor([0.2, -0.1, 1.0]), dim=0))
    assert rays.origins[7].tolist() == [1, 2, 3]


def test_what_is_empty_is_marked_and_cut_off() -> None:
    field = even_field(21, 0.0)
    field.density.planes[0].data[8:13, 8:13, 0] = 5.0  # around the middle of x and y
    field.density.lines[0].data[15:, 0] = 1.0
    field.density.lines[0].data[:15, 0] = 0.0
    box = field.find_occupied((20, 20, 20))
    assert 0.01 < float(field.occupied.float().mean()) < 0.2
    assert bool((box[0] < torch.tensor([-0.2, -0.2, 0.5])).all()) and bool(
        (box[1] > torch.tensor([0.2, 0.2, 0.95])).all()
    )
    assert bool((box[0] > -0.6).all())
    centre = torch.tensor([[0.0, 0.0, 0.8]])
    before = field.density.sum(field.cells(centre))
    field.shrink(box)
    assert max(field.size) < 14
    torch.testing.assert_close(field.density.sum(field.cells(centre)), before)
    torch.testing.assert_close(field.place(field.cells(centre)), centre)
