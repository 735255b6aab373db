"""Words of pixels against hand-computed values."""

import torch

from ov3d_perception.methods.maskclip import pixel_words, prompt_denoising


def test_a_pixel_says_the_nearest_word_that_is_allowed():
    pixels, text = torch.tensor([[0.8, 0.6, 0.0], [0.0, 0.6, 0.8]]), torch.eye(3)
    assert pixel_words(pixels, text).tolist() == [0, 2]
    allowed = torch.tensor([[False, True, True], [True, True, False]])
    assert pixel_words(pixels, text, allowed).tolist() == [1, 1]


def test_a_word_that_is_sure_nowhere_is_denoised():
    """Cosines (1, 0) and (0.6, 0.8) of two patches, scale 10: the second word reaches 0.88, the third 0.0001."""
    dense, text = torch.tensor([[[1.0, 0.6]], [[0.0, 0.8]], [[0.0, 0.0]]]), torch.eye(3)
    assert prompt_denoising(dense, text, 10.0, 0.5).tolist() == [True, True, False]
    assert prompt_denoising(dense, text, 10.0, 0.9).tolist() == [True, False, False]
    assert prompt_denoising(dense, text, 0.0, 0.9).tolist() == [True, True, True]
