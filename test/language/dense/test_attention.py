"""Ways of attending against slow loops written from their equations."""

from __future__ import annotations

import math

import open_clip
import pytest
import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional

from ov3d_perception.errors import EncoderError
from ov3d_perception.language.dense import WAYS, dense_features
from ov3d_perception.language.dense.naclip import nearness
from ov3d_perception.language.dense.scclip import self_correlation
from ov3d_perception.language.dense.tower import tokens_before_last_block
from ov3d_perception.language.encoder import DenseSettings

ROWS, COLUMNS, HEADS, WIDTH = 4, 6, 3, 24


@pytest.fixture
def visual() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(
        image_size=32, patch_size=8, width=WIDTH, layers=12, heads=HEADS, mlp_ratio=2.0, output_dim=10
    ).eval()


@pytest.fixture
def image() -> Tensor:
    return torch.randn(1, 3, 8 * ROWS, 8 * COLUMNS, generator=torch.Generator().manual_seed(1))


def attention_near(visual: VisionTransformer, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """NACLIP's weights of each head, (HEADS, n, n), and the values, (n, WIDTH), in loops."""
    block = visual.transformer.resblocks[-1]
    projected = block.ln_1(tokens) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
    keys, values = projected[:, WIDTH : 2 * WIDTH], projected[:, 2 * WIDTH :]
    n, d, s = ROWS * COLUMNS, WIDTH // HEADS, 5 / 14 * ROWS
    weights = torch.zeros(HEADS, n, n)
    for h in range(HEADS):
        for i in range(n):
            for j in range(n):
                squared = (i // COLUMNS - j // COLUMNS) ** 2 + (i % COLUMNS - j % COLUMNS) ** 2
                k_i, k_j = keys[i, h * d : (h + 1) * d], keys[j, h * d : (h + 1) * d]
                weights[h, i, j] = math.exp(float(k_i @ k_j) / math.sqrt(d) + math.exp(-squared / (2 * s * s)))
            weights[h, i] /= weights[h, i].sum()
    return weights, values


def out(visual: VisionTransformer, weights: Tensor, values: Tensor) -> Tensor:
    """proj(ln_post(W_out A v + b_out)), unit norm."""
    d, attention = WIDTH // HEADS, visual.transformer.resblocks[-1].attn
    mixed = torch.cat([weights[h] @ values[:, h * d : (h + 1) * d] for h in range(HEADS)], dim=1)
    return functional.normalize(visual.ln_post(attention.out_proj(mixed)) @ visual.proj, dim=1)


@torch.no_grad()
def test_naclip_attends_by_keys_and_nearness(visual, image):
    tokens = tokens_before_last_block(visual, image)[0][0, 1:]
    expected = out(visual, *attention_near(visual, tokens))
    found = dense_features(visual, image, "naclip")
    assert found.shape == (1, 10, ROWS, COLUMNS)
    torch.testing.assert_close(found[0].flatten(1).T, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_scclip_adds_attention_by_the_seventh_blocks_cosines_above_their_mean(visual, image):
    outputs: dict[int, Tensor] = {}
    for number, block in enumerate(visual.transformer.resblocks, start=1):
        block.register_forward_hook(lambda _, __, result, number=number: outputs.__setitem__(number, result))
    tokens_before_last_block(visual, image)
    middle, tokens = outputs[7][0, 1:], outputs[11][0, 1:]
    n = ROWS * COLUMNS
    cosines = torch.zeros(n, n)
    for i in range(n):
        for j in range(n):
            cosines[i, j] = functional.cosine_similarity(middle[i], middle[j], dim=0)
    alike = torch.zeros(n, n)
    for i in range(n):
        for j in range(n):
            above = float(cosines[i, j] - cosines.mean())
            alike[i, j] = math.exp(10 * above) if above >= 0 else 0.0
        alike[i] /= alike[i].sum()
    near, values = attention_near(visual, tokens)
    expected = out(visual, 0.3 * near + 0.7 * alike, values)
    found = dense_features(visual, image, "scclip")
    torch.testing.assert_close(found[0].flatten(1).T, expected, atol=1e-5, rtol=1e-5)


def test_nearness_is_one_at_the_patch_itself_and_falls_with_the_squared_distance():
    near = nearness((14, 20))
    assert near[0, 0] == 1.0
    assert near[0, 3 * 20 + 4] == pytest.approx(math.exp(-25 / 50))  # 3 down, 4 right, s = 5


def test_what_is_less_alike_than_the_mean_takes_no_part():
    tokens = torch.tensor([[[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0]]])
    weights = self_correlation(tokens)[0]
    assert weights[0, 2] == 0 and weights[2, :2].sum() == 0
    torch.testing.assert_close(weights.sum(1), torch.ones(3))
    assert (self_correlation(torch.ones(1, 5, 4)) - 0.2).abs().max() < 1e-6  # all alike: the plain mean


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_every_way_takes_batches_and_towers_pooled_by_the_average(way):
    torch.manual_seed(0)
    tower = open_clip.transformer.VisionTransformer(
        image_size=32, patch_size=8, width=24, layers=4, heads=3, mlp_ratio=2.0, output_dim=10, pool_type="avg"
    ).eval()
    images = torch.randn(2, 3, 40, 56)
    both = dense_features(tower, images, way)
    assert both.shape == (2, 10, 5, 7)
    torch.testing.assert_close(both[1:], dense_features(tower, images[1:], way), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(both.norm(dim=1), torch.ones(2, 5, 7))


def test_an_unknown_way_is_refused_by_name():
    with pytest.raises(EncoderError, match=r"'sclip'.*maskclip, naclip, scclip"):
        DenseSettings(way="sclip")
