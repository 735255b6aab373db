"""MaskCLIP features against the definition, written with torch's own attention."""

from __future__ import annotations

import cv2
import numpy as np
import open_clip
import pytest
import torch
from open_clip.transformer import VisionTransformer
from torch.nn import functional

from ov3d_perception.errors import EncoderError
from ov3d_perception.language.dense import dense_features
from ov3d_perception.language.dense.maskclip import value_path
from ov3d_perception.language.dense.tower import check_supported, resize_position_embedding, tokens_before_last_block


def vit(**options) -> VisionTransformer:
    torch.manual_seed(0)
    settings = {"image_size": 32, "patch_size": 8, "width": 24, "layers": 3, "heads": 3, "mlp_ratio": 2.0}
    return VisionTransformer(**settings, output_dim=10, **options).eval()


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_token_pooled_value_path_is_attention_of_each_patch_to_itself_alone(image):
    visual = vit()
    tokens = visual._embeds(image)
    for block in visual.transformer.resblocks[:-1]:
        tokens = block(tokens)
    block = visual.transformer.resblocks[-1]
    only_self = torch.full((17, 17), -torch.inf).fill_diagonal_(0)
    normed = block.ln_1(tokens)
    attended = block.attn(normed, normed, normed, attn_mask=only_self, need_weights=False)[0]
    expected = functional.normalize(visual.ln_post(attended[:, 1:]) @ visual.proj, dim=-1)
    dense = dense_features(visual, image)
    assert dense.shape == (2, 10, 4, 4)
    torch.testing.assert_close(dense.flatten(2).transpose(1, 2), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("norm_after_pool", [False, True])
def test_average_pooled_value_path_keeps_residual_and_mlp(image, norm_after_pool):
    visual = vit(pool_type="avg", final_ln_after_pool=norm_after_pool)
    tokens = tokens_before_last_block(visual, image)[0]
    only_self = torch.full((17, 17), -torch.inf).fill_diagonal_(0)
    expected = visual.ln_post(visual.transformer.resblocks[-1](tokens, attn_mask=only_self)[:, 1:]) @ visual.proj
    torch.testing.assert_close(value_path(visual, tokens)[:, 1:], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_average_pooled_features_average_to_the_image_embedding_where_attention_adds_nothing():
    visual = vit(pool_type="avg", final_ln_after_pool=False)
    visual.transformer.resblocks[-1].attn.out_proj.weight.zero_()
    pixels = torch.randn(1, 3, 32, 32)
    dense = value_path(visual, tokens_before_last_block(visual, pixels)[0][:, 1:])
    torch.testing.assert_close(dense.mean(1), visual(pixels), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_tokens_before_the_last_block_are_the_towers_own(image):
    visual = vit()
    tokens = tokens_before_last_block(visual, image)[0]
    pooled, _ = visual._pool(visual.transformer.resblocks[-1](tokens))
    torch.testing.assert_close(pooled @ visual.proj, visual(image), atol=1e-5, rtol=1e-5)


def test_features_have_unit_length_at_any_size():
    dense = dense_features(vit(), torch.randn(1, 3, 40, 72))
    assert dense.shape == (1, 10, 5, 9)
    torch.testing.assert_close(dense.norm(dim=1), torch.ones(1, 5, 9))


def test_position_embedding_is_unchanged_at_its_own_size_and_keeps_the_class_row():
    embedding = torch.randn(17, 6)
    assert resize_position_embedding(embedding, (4, 4), (4, 4)) is embedding
    resized = resize_position_embedding(embedding, (4, 4), (3, 7))
    assert resized.shape == (22, 6)
    torch.testing.assert_close(resized[0], embedding[0])


def test_position_embedding_is_resized_as_opencv_does():
    grid = np.random.default_rng(0).normal(size=(8, 6, 4)).astype(np.float32)
    embedding = torch.cat([torch.zeros(1, 4), torch.from_numpy(grid).flatten(0, 1)])
    resized = resize_position_embedding(embedding, (8, 6), (13, 17))
    expected = cv2.resize(grid, (17, 13), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(resized[1:].view(13, 17, 4).numpy(), expected, atol=1e-4)


def test_towers_without_patch_values_are_refused():
    with pytest.raises(EncoderError, match="ModifiedResNet"):
        check_supported(open_clip.create_model("RN50", load_weights=False).visual)
    with pytest.raises(EncoderError, match="attention pool"):
        check_supported(vit(attentional_pool=True, attn_pooler_heads=2))
    check_supported(vit(pool_type="avg"))


@pytest.mark.parametrize("sharpness", [0.5, 4.0])
@torch.no_grad()
def test_key_smoothing_is_the_mean_over_patches_by_how_alike_their_keys_are(image, sharpness):
    visual = vit()
    tokens = tokens_before_last_block(visual, image)[0][:, 1:]
    block = visual.transformer.resblocks[-1]
    weight, bias = block.attn.in_proj_weight[24:48], block.attn.in_proj_bias[24:48]
    keys = block.ln_1(tokens) @ weight.T + bias
    plain = dense_features(visual, image).flatten(2).transpose(1, 2)
    expected = torch.zeros_like(plain)
    for b in range(2):
        for i in range(16):
            for j in range(16):
                cosine = functional.cosine_similarity(keys[b, i], keys[b, j], dim=0)
                expected[b, i] += torch.exp(sharpness * cosine) * plain[b, j]
    smooth = dense_features(visual, image, key_smoothing=sharpness).flatten(2).transpose(1, 2)
    torch.testing.assert_close(smooth, functional.normalize(expected, dim=-1), atol=1e-5, rtol=1e-5)
    assert (smooth - plain).abs().max() > 0.01
