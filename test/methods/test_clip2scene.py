"""Each equation of CLIP2Scene against a slow loop written from the paper, values and gradients; corner cases."""

import math

import pytest
import torch
import torch.nn.functional as F

from ov3d_perception.methods.clip2scene import (
    Clip2SceneOptions,
    Clip2SceneStep,
    SelfTraining,
    first_sweep_words,
    fuse,
    losses,
    semantic_consistency,
    spatio_temporal_consistency,
    word_cross_entropy,
)

WORD_CLASS = torch.tensor([0, 1, 1, 2])


def unit(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def unit_32(*shape, seed=0):
    return unit(*shape, seed=seed).float()


def equation_1(points, word, text, word_class, tau):
    """Point by point and pair by pair."""
    total = torch.zeros((), dtype=points.dtype)
    for c in range(int(word_class.max()) + 1):
        inside = [i for i in range(len(points)) if word_class[word[i]] == c]
        outside = [j for j in range(len(points)) if word_class[word[j]] != c]
        if not inside or not outside:
            continue
        above = sum(torch.exp(text[word[i]] @ points[i] / tau) for i in inside)
        below = sum(torch.exp(text[word[i]] @ points[j] / tau) for i in inside for j in outside)
        total = total - torch.log(above / below)
    return total


def equations_2_to_4(pixels, points, text, grid, lam):
    """Grid by grid; text is t^1 of each pair."""
    total, grids = torch.zeros((), dtype=points.dtype), int(grid.max()) + 1
    for n in range(grids):
        members = [i for i in range(len(grid)) if grid[i] == n]
        z = sum(torch.exp(pixels[i] @ text[i] / lam) + torch.exp(points[i] @ text[i] / lam) for i in members)
        f = torch.zeros(points.shape[1], dtype=points.dtype)
        for i in members:
            a, b = torch.exp(pixels[i] @ text[i] / lam) / z, torch.exp(points[i] @ text[i] / lam) / z
            f = f + a * pixels[i] + b * points[i]
        for i in members:
            total = total + (1 - 1 / (1 + torch.exp(-(points[i] @ f)))) / grids
    return total


def same_value_and_gradient(loss, oracle, points):
    ours, theirs = points.clone().requires_grad_(), points.clone().requires_grad_()
    one, other = loss(ours), oracle(theirs)
    one.backward()
    other.backward()
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert theirs.grad.abs().max() > 0


@pytest.mark.parametrize("tau", [0.5, 0.07])
@pytest.mark.parametrize("words", [(0, 1, 2, 3), (0, 1), (1, 2, 3), (2, 0, 0)], ids=str)
def test_semantic_consistency_is_equation_1(words, tau):
    """With all words, with classes that have no point, and with two words of one class."""
    points, text = unit(9, 5), unit(4, 5, seed=1)
    word = torch.tensor([words[i % len(words)] for i in range(9)])
    same_value_and_gradient(
        lambda p: semantic_consistency(p, word, text, WORD_CLASS, tau),
        lambda p: equation_1(p, word, text, WORD_CLASS, tau),
        points,
    )


def test_equation_1_by_hand():
    """Two classes, one point each: -log(e^(1/.5) / e^0) for the point on its word, -log(e^0 / e^0) for the other."""
    points, text = torch.tensor([[1.0, 0.0], [0.0, -1.0]]), torch.eye(2)
    loss = semantic_consistency(points, torch.tensor([0, 1]), text, torch.tensor([0, 1]), 0.5)
    hand = -math.log(math.exp(2) / math.exp(0)) - math.log(math.exp(-2) / math.exp(0))
    assert loss.item() == pytest.approx(hand)


@pytest.mark.parametrize("word", [[], [1], [1, 2, 1], [3, 3]], ids=str)
def test_without_a_second_class_equation_1_is_zero_with_a_zero_gradient(word):
    points = unit(len(word), 5).requires_grad_()
    loss = semantic_consistency(points, torch.tensor(word, dtype=torch.int64), unit(4, 5), WORD_CLASS)
    loss.backward()
    assert loss.item() == 0.0
    assert not points.grad.any()


def test_equation_1_stays_finite_where_exponentials_do_not():
    points, text = torch.eye(2), torch.eye(2)
    loss = semantic_consistency(points, torch.tensor([0, 1]), text, torch.tensor([0, 1]), 0.001)
    assert loss.item() == pytest.approx(-2 / 0.001)


def test_the_releases_form_by_hand():
    """Two points on words of length 1 and 2: log(1 + e^-1) and log(1 + e^-2); nothing without a point."""
    points, word = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1])
    hand = (math.log1p(math.exp(-1)) + math.log1p(math.exp(-2))) / 2
    assert word_cross_entropy(points, word, torch.eye(2)).item() == pytest.approx(hand)
    assert word_cross_entropy(points[:0], word[:0], torch.eye(2)).item() == 0.0
    weighted = (1.5 * math.log1p(math.exp(-1)) + 0.5 * math.log1p(math.exp(-2))) / 2
    assert word_cross_entropy(points, word, torch.eye(2), torch.tensor([1.5, 0.5])).item() == pytest.approx(weighted)


@pytest.mark.parametrize("grid", [[0, 0, 1, 1, 1, 2, 2], [0, 1, 2, 3, 4, 5, 6], [0] * 7], ids=str)
@pytest.mark.parametrize("lam", [1.0, 0.1])
def test_spatio_temporal_consistency_is_equations_2_to_4(grid, lam):
    """Several points a grid, one point a grid, one grid."""
    pixels, points, text, grid = unit(7, 4), unit(7, 4, seed=1), unit(7, 4, seed=2), torch.tensor(grid)
    same_value_and_gradient(
        lambda p: spatio_temporal_consistency(pixels, p, text, grid, lam),
        lambda p: equations_2_to_4(pixels, p, text, grid, lam),
        points,
    )


def test_one_point_alone_by_hand():
    """x on the word, p across it: a = e / (e + 1), b = 1 / (e + 1), D(p, f) = b."""
    pixel, point = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    f = fuse(pixel, point, pixel, torch.tensor([0]), 1)
    b = 1 / (math.e + 1)
    torch.testing.assert_close(f, torch.tensor([[1 - b, b]]))
    loss = spatio_temporal_consistency(pixel, point, pixel, torch.tensor([0]))
    assert loss.item() == pytest.approx(1 - 1 / (1 + math.exp(-b)))


def test_an_empty_grid_has_no_feature_and_no_pair_no_loss():
    one = torch.tensor([[1.0, 0.0]])
    f = fuse(one, one, one, torch.tensor([1]), 3, 0.001)
    torch.testing.assert_close(f, torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]))
    points = torch.zeros(0, 2, requires_grad=True)
    loss = spatio_temporal_consistency(points, points, points, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0.0


def test_the_first_sweep_names_the_grid():
    """Grid 0: the first sweep says 1 twice and 2 once, later ones 2. Grid 1: only later sweeps. Grid 2: a draw."""
    grid = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2])
    sweep = torch.tensor([0, 0, 0, 1, 1, 2, 1, 2, 2, 0, 0])
    word = torch.tensor([1, 2, 1, 2, 2, 2, 0, 3, 3, 3, 1])
    assert first_sweep_words(word, grid, sweep, 4).tolist() == [1] * 6 + [3] * 3 + [1] * 2
    nothing = torch.zeros(0, dtype=torch.int64)
    assert first_sweep_words(nothing, nothing, nothing, 4).tolist() == []


def test_own_words_take_turns_after_the_first_epochs():
    training = SelfTraining(after=3, probability=0.5)
    assert not any(training.applies(2, 1, step) for step in range(50))
    turns = [training.applies(3, 1, step) for step in range(400)]
    assert turns == [training.applies(3, 1, step) for step in range(400)]
    assert 0.4 < sum(turns) / 400 < 0.6
    assert all(SelfTraining(0, 1.0).applies(0, 1, step) for step in range(50))
    assert not any(SelfTraining(0, 0.0).applies(9, 1, step) for step in range(50))


def step_of(self_trained=False, **changes):
    """Eight pairs in three grids; the heads' outputs have lengths other than 1, which the equations must not see."""
    text = unit(4, 5, seed=1)
    values = {
        "pixels": unit(8, 5, seed=2),
        "word": torch.tensor([0, 1, 2, 3, 0, 1, 2, 3]),
        "semantic": 3.0 * unit(8, 5, seed=3),
        "spatial": 0.5 * unit(8, 5, seed=4),
        "sweep": torch.tensor([0, 1, 0, 1, 0, 1, 2, 0]),
        "grid": torch.tensor([0, 0, 0, 1, 1, 2, 2, 2]),
        "text": text,
        "word_class": WORD_CLASS,
    }
    values |= changes
    single = {n: v.float() if v is not None and v.is_floating_point() else v for n, v in values.items()}
    return Clip2SceneStep(**single, self_trained=self_trained)


def test_a_step_is_equations_1_to_4_with_their_weights():
    step = step_of()
    found = losses(step, Clip2SceneOptions(semantic=2.0, spatial=0.5, tau=0.3, attention=0.7))
    points, spatial = unit_32(8, 5, seed=3), unit_32(8, 5, seed=4)
    first = step.text[torch.tensor([0, 0, 0, 0, 0, 3, 3, 3])]  # by hand: grid 0 has words 0, 2 of sweep 0; 1: 0; 2: 3
    torch.testing.assert_close(found["semantic"], 2.0 * equation_1(points, step.word, step.text, WORD_CLASS, 0.3))
    expected = equations_2_to_4(step.pixels, spatial, first, step.grid, 0.7)
    torch.testing.assert_close(found["spatial"], 0.5 * expected)


def test_a_loss_of_weight_zero_or_without_its_head_is_left_out():
    assert list(losses(step_of(), Clip2SceneOptions(spatial=0.0))) == ["semantic"]
    assert list(losses(step_of(), Clip2SceneOptions(semantic=0.0))) == ["spatial"]
    assert list(losses(step_of(spatial=None), Clip2SceneOptions())) == ["semantic"]


def test_a_self_trained_step_takes_the_words_nearest_to_its_points():
    own = (unit_32(8, 5, seed=3) @ unit_32(4, 5, seed=1).T).argmax(1)
    assert own.tolist() != step_of().word.tolist()
    for form in ("equation", "release", "soft"):
        options = Clip2SceneOptions(form=form, logit_scale=2.0)
        taught, named = losses(step_of(self_trained=True), options), losses(step_of(word=own), options)
        torch.testing.assert_close(taught["spatial"], named["spatial"])
        assert (form == "soft") != bool(torch.isclose(taught["semantic"], named["semantic"]))
    expected = F.cross_entropy(2.0 * unit_32(8, 5, seed=3) @ unit_32(4, 5, seed=1).T, own)
    torch.testing.assert_close(taught["semantic"], expected)  # "soft" has no softmax of pixels for its own words


def test_the_releases_form_sees_lengths_and_weights():
    step, weight = step_of(), torch.tensor([1.0, 2.0, 0.5, 0.5])
    options = Clip2SceneOptions(spatial=0.0, form="release", class_weight=lambda word: weight[word])
    each = F.cross_entropy(step.semantic @ step.text.T, step.word, reduction="none")
    torch.testing.assert_close(losses(step, options)["semantic"], (each * weight[step.word]).mean())
