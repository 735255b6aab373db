"""Memory that is used again only when nobody holds it."""

from __future__ import annotations

import gc

import pytest
import torch

from ov3d_perception.sparse.runtime.arena import LEAST, Arena

LIKE = torch.empty(0)
ROWS = LEAST // 64


def test_what_is_dropped_is_used_again() -> None:
    arena = Arena()
    first = arena.empty(ROWS, 32, LIKE)
    place = first.data_ptr()
    assert first.shape == (ROWS, 32) and first.dtype == torch.float32 and place % 64 == 0
    del first
    assert arena.empty(ROWS - 5, 32, LIKE).data_ptr() == place


@pytest.mark.parametrize("keep", [lambda t: t, lambda t: t[3:5], lambda t: t.numpy(), lambda t: t.detach().view(-1)])
def test_what_anybody_holds_is_not(keep) -> None:  # type: ignore[no-untyped-def]
    arena = Arena()
    first = arena.empty(ROWS, 32, LIKE).fill_(7)
    held = keep(first)
    del first
    gc.collect()
    arena.empty(ROWS, 32, LIKE).fill_(1)
    assert (held == 7).all()


def test_a_much_larger_buffer_waits_for_a_larger_tensor() -> None:
    arena = Arena()
    place = arena.empty(8 * ROWS, 32, LIKE).data_ptr()
    small = arena.empty(ROWS, 32, LIKE)
    assert small.data_ptr() != place
    assert arena.empty(8 * ROWS, 32, LIKE).data_ptr() == place


def test_what_nobody_wants_is_given_up() -> None:
    arena = Arena()
    arena.empty(8 * ROWS, 32, LIKE)
    held = [arena.empty(ROWS + k, 32, LIKE) for k in range(250)]
    assert len(held) == 250 and not arena._idle


def test_types_and_small_ones() -> None:
    arena = Arena()
    assert arena.empty(ROWS, 64, LIKE.bfloat16()).dtype == torch.bfloat16
    assert arena.empty(0, 32, LIKE).shape == (0, 32)
    with torch.inference_mode():
        assert arena.empty(ROWS, 32, LIKE).is_inference()


def test_gradients_flow_through_it() -> None:
    rows = Arena().empty(ROWS, 32, LIKE).fill_(2).requires_grad_()
    rows.square().sum().backward()
    assert rows.grad is not None and (rows.grad == 4).all()
