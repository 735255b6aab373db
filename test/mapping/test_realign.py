"""A map in another network's coordinates: what is kept is exact, what is lost is measured, and much is refused."""

from __future__ import annotations

import numpy as np
import pytest
from map_files import BANK, HEAD, IDENTITY, answers, content, town

from ov3d_perception.errors import IdentityError
from ov3d_perception.mapping.basis import Basis
from ov3d_perception.mapping.realign import realign
from ov3d_perception.mapping.semantic_map import SemanticMap
from ov3d_perception.types import EncoderIdentity

MIX = np.random.default_rng(7).normal(size=(4, 4)).astype(np.float32)


def test_a_head_of_the_same_row_space_loses_nothing_but_rounding() -> None:
    """W' = A W: every embedding that the one network can say, the other can."""
    old = town()
    new, lost = realign(old, Basis(MIX @ HEAD, IDENTITY, 10.0))
    assert lost == pytest.approx(0.0, abs=1e-5)
    assert new.basis_id == Basis(MIX @ HEAD, IDENTITY).basis_id and new.newest == old.newest
    mine, theirs = content(old), content(new)
    assert mine.keys() == theirs.keys()
    for key in list(mine)[::97]:
        np.testing.assert_allclose(mine[key][0], theirs[key][0], atol=0.03)
        assert mine[key][1:] == theirs[key][1:], "weight and stamp"
    before, after = answers(old), answers(new)
    assert [match.word for match in before] == [match.word for match in after]
    for one, two in zip(before, after, strict=True):
        np.testing.assert_allclose(one.box.centre, two.box.centre, atol=0.2)
        assert one.score == pytest.approx(two.score, abs=0.02)


def test_it_grows_on_with_the_new_network() -> None:
    head = MIX @ HEAD
    new, _ = realign(town(), Basis(head, IDENTITY, 10.0))
    count = len(new)
    centres = np.array([[100.1, 0.1, 0.1]], np.float32)
    new.integrate(centres, (BANK.embeddings[:1] @ np.linalg.pinv(head)).astype(np.float32), 99 * 10**9)
    assert len(new) == count + 1


def test_the_loss_is_the_share_of_the_squared_length_outside_the_new_row_space() -> None:
    """e = (0.6, 0.8, 0); the new head only has (1, 0, 0): 0.8 * 0.8 of it is lost."""
    three = EncoderIdentity("tiny", "test", 3)
    old = SemanticMap(0.2, np.eye(2, 3, dtype=np.float32), three)
    old.integrate(np.float32([[0.1, 0.1, 0.1]]), np.float32([[0.6, 0.8]]), 1)
    narrow = Basis(np.float32([[1, 0, 0]]), three)
    new, lost = realign(old, narrow, most_lost=0.7)
    assert lost == pytest.approx(0.64, abs=0.01)
    ((mean, _, _),) = content(new).values()
    np.testing.assert_allclose(mean, [0.6, 0, 0], atol=0.01)
    with pytest.raises(IdentityError, match="64 % of what its voxels know would be lost"):
        realign(old, narrow)
    assert len(old) == 1, "a refused map is as it was"


def test_another_encoder_is_refused() -> None:
    with pytest.raises(IdentityError, match="other/test/6"):
        realign(town(scans=1), Basis(HEAD, EncoderIdentity("other", "test", 6)))


def test_an_empty_map_loses_nothing() -> None:
    new, lost = realign(SemanticMap(0.2, HEAD, IDENTITY), Basis(MIX @ HEAD, IDENTITY))
    assert lost == 0.0 and len(new) == 0
