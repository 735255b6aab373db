"""Classification of point features by text, without computing their embeddings.

The head is linear: a point feature z of about a hundred channels has the embedding ``f = z W`` of 512 or more. For a
unit text embedding t

    cos(f, t) = (z . W t) / sqrt(z W W^T z)

so ``W t`` is computed once, and each feature costs a product with a C x P and a C x C matrix. The result is exact.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int32
from torch import Tensor
from torch.nn import functional

from ov3d_perception.types import UNLABELLED

_CHUNK = 4096  # rows at a time: on a CPU, scores of 200 prompts then stay in the cache
_ALIGNMENT = 16
_SMALL = 1e-12


class TextClassifier:
    """Prompts, projected through the head's weights; on the device of the features to come.

    basis: W, (C, D); embeddings: (P, D), normalised here.
    """

    def __init__(
        self,
        basis: Float32[np.ndarray, "c d"],
        embeddings: Float[np.ndarray, "p d"],
        device: torch.device | str = "cpu",
    ) -> None:
        w = torch.as_tensor(np.asarray(basis, dtype=np.float64))
        t = functional.normalize(torch.as_tensor(np.asarray(embeddings, dtype=np.float64)), dim=1, eps=_SMALL)
        self._prompts = len(t)
        padding = -len(t) % _ALIGNMENT  # empty columns: a product of 176 takes half the time of one of 171
        self._directions = functional.pad(w @ t.T, (0, padding)).float().contiguous().to(device)
        self._gram = (w @ w.T).float().contiguous().to(device)

    def cosines(self, features: Float32[Tensor, "v c"]) -> Float32[Tensor, "v p"]:
        """Cosine of each feature's embedding with each prompt; 0 for a feature of length 0."""
        length = ((features @ self._gram) * features).sum(dim=1, keepdim=True).clamp_min_(_SMALL).sqrt_()
        return (features @ self._directions)[:, : self._prompts].div_(length).clamp_(-1.0, 1.0)

    @torch.inference_mode()
    def classify(
        self, features: Float32[Tensor, "v c"], prompt_class: Int[np.ndarray, " p"], logit_scale: float
    ) -> tuple[Int32[Tensor, " v"], Float32[Tensor, " v"]]:
        """The most probable class and its probability: the softmax over all prompts, summed over the class's own.

        prompt_class: class index of each prompt. Prompts beyond them are rivals, each by itself: where one of them is
        more probable than any class, the label is UNLABELLED; the probability remains that of the best class.
        """
        label = torch.empty(len(features), dtype=torch.int32, device=features.device)
        probability = torch.empty(len(features), device=features.device)
        owner = torch.as_tensor(np.asarray(prompt_class, dtype=np.int64)).to(features.device)
        members = functional.one_hot(owner).float()
        for start in range(0, len(features), _CHUNK):
            part = slice(start, start + _CHUNK)
            likelihood = torch.softmax(self.cosines(features[part]).mul_(logit_scale), dim=1)
            own, rivals = likelihood[:, : len(owner)], likelihood[:, len(owner) :]
            probability[part], best = (own @ members).max(dim=1)
            if self._prompts > len(owner):
                best = torch.where(rivals.max(dim=1).values > probability[part], UNLABELLED, best)
            label[part] = best
        return label, probability.clamp_(max=1.0)
