"""Codes and bytes: what they lose is bounded, and known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ov3d_perception.mapping.codebook import GROUPS, NEAR, SIZE, Codebook
from ov3d_perception.mapping.quantisation import CHANNELS, Projection, Quantiser, dequantise, normalise_rows
from ov3d_perception.mapping.voxel_table import VoxelTable


def blobs(rng: np.random.Generator, count: int, spread: float, channels: int = 16) -> np.ndarray:
    """Unit vectors around ``count`` directions."""
    centres = rng.normal(size=(count, channels))
    return normalise_rows(
        (centres[rng.integers(count, size=4000)] + spread * rng.normal(size=(4000, channels))).astype("f4")
    )


def test_every_vector_is_near_its_code_while_there_is_room() -> None:
    """Learning is limited a call; after some calls nothing is farther than an entry that has moved a little.

    In how many depends on the last bits of sums: a new group takes vectors from others, which then learn them anew.
    """
    book, unit = Codebook(16), blobs(np.random.default_rng(0), 50, 0.1)
    for _ in range(24):
        code = book.encode(unit)
    assert 0 < len(book) < GROUPS * SIZE and code.min() >= 1
    cosine = (book.vectors()[code] * unit).sum(1)
    assert cosine.min() > 1 - 4 * (1 - NEAR) and cosine.mean() > NEAR
    assert book.fits(unit, code).mean() > 0.9
    assert not book.fits(unit, np.roll(code, 1)).all() and not book.fits(unit, np.zeros_like(code)).any()


def test_the_spread_is_what_the_codes_leave_out() -> None:
    rng = np.random.default_rng(1)
    book = Codebook(16)
    for _ in range(20):
        unit = blobs(rng, 1, 0.0)
    tight, loose = blobs(np.random.default_rng(2), 40, 0.02), blobs(np.random.default_rng(3), 40, 0.04)
    for _ in range(60):
        book.encode(np.concatenate([tight, loose, unit]))
    code = book.encode(np.concatenate([tight, loose]))
    off = np.concatenate([tight, loose]) - book.vectors()[code]
    assert 0.3 * (off**2).sum(1).mean() < np.trace(book.spread) < 1.5 * (off**2).sum(1).mean()
    far, near = (book.looseness()[code[part]].mean() for part in (slice(4000, None), slice(4000)))
    assert far > 1.3 * near, "the entries of wider blobs know that they are looser"


def test_a_full_list_takes_the_nearest() -> None:
    """More directions than entries: the list stays in its bounds, and codes stay better than chance."""
    rng, book = np.random.default_rng(0), Codebook(24)
    for _ in range(90):
        unit = normalise_rows(rng.normal(size=(2000, 24)).astype(np.float32))
        code = book.encode(unit)
    assert 0.3 * GROUPS * SIZE < len(book) <= GROUPS * SIZE and code.max() <= GROUPS * SIZE
    before = len(book)
    book.encode(unit)
    assert len(book) - before < 50, "hardly any group has room"
    assert (book.vectors()[code] * unit).sum(1).mean() > 0.5


def test_places_not_in_use_are_no_answer() -> None:
    """What is opposite to all there is gets one of the entries, while there is no room to learn it."""
    book = Codebook(3)
    book.encode(np.float32([[1, 0, 0]]))
    book._closed[:] = True
    assert book.encode(np.float32([[-1, 0, 0], [0, -1, 0]])).tolist() == [1, 1]


def test_nothing_has_code_zero() -> None:
    book = Codebook(4)
    assert len(book.encode(np.empty((0, 4), np.float32))) == 0 and not book.vectors().any() and len(book) == 0
    assert book.encode(np.eye(4, dtype=np.float32)).tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(book.vectors()[1:5], np.eye(4), atol=1e-6)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
@example(18383, 1)  # a row of some 1e-4, whose factor is a subnormal number
def test_bytes_are_off_by_a_step_at_most(seed: int, revision: int) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=(50, 12)) * rng.uniform(0, 1, (50, 1))).astype(np.float32)
    values[0] = 0
    bytes_, factor = Quantiser(12)(values, np.arange(50), revision)
    off = np.abs(dequantise(bytes_, factor) - values)
    assert (off <= factor.astype(np.float32)[:, None] * 1.001).all()
    assert (factor[1:].astype(np.float32) <= np.abs(values[1:]).max(1) / 126 + 1e-6).all()


def test_rounding_is_without_bias() -> None:
    """A value of a third of a step, rounded at many revisions: its mean is a third of a step."""
    values = np.tile(np.float32([[1.0, 1 / 127 / 3]]), (2000, 1))
    bytes_, factor = Quantiser(2)(values, np.arange(2000), 5)
    assert dequantise(bytes_, factor)[:, 1].mean() == pytest.approx(1 / 127 / 3, rel=0.15)


@pytest.mark.parametrize("shape", [(6, 40), (40, 12), (96, 512)])
def test_projection_keeps_angles_to_texts(shape: tuple[int, int]) -> None:
    """Exact for heads of up to CHANNELS directions; beyond, for features that lie in the strongest of them."""
    rng = np.random.default_rng(0)
    strength = np.geomspace(1, 1e-3, shape[0])[:, None] if min(shape) > CHANNELS else 1.0
    head = (rng.normal(size=shape) * strength).astype(np.float32)
    projection = Projection(head)
    assert projection.channels == min(CHANNELS, *shape)
    np.testing.assert_allclose(projection.basis @ projection.basis.T, np.eye(projection.channels), atol=1e-5)
    z, text = rng.normal(size=(30, shape[0])).astype(np.float32), rng.normal(size=(9, shape[1]))
    wide = z @ head
    unit, length = projection(z)
    np.testing.assert_allclose(length, np.linalg.norm(wide, axis=1), rtol=1e-4)
    expected = wide / np.linalg.norm(wide, axis=1, keepdims=True) @ text.T
    np.testing.assert_allclose(unit @ (projection.basis @ text.T), expected, atol=0.2 if shape[0] > CHANNELS else 1e-4)


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("used", [0, 1, 4096, 9001])
def test_look_up(monkeypatch: pytest.MonkeyPatch, used: int, wide: bool) -> None:
    """With this OpenCV's 16-bit table, and without."""
    monkeypatch.setattr("ov3d_perception.mapping.voxel_table._LOOKS_UP_16_BITS", wide)
    columns = VoxelTable(10_000, 2)
    columns.code[:10_000] = np.random.default_rng(0).integers(0, 500, 10_000)
    table = np.random.default_rng(1).random(500).astype(np.float32)
    np.testing.assert_array_equal(columns.look_up(table, used), table[columns.code[:used]])
    np.testing.assert_array_equal(columns.look_up(table > 0.5, used), (table > 0.5)[columns.code[:used]])
